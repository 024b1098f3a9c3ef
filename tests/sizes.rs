//! Sizes mean what their readers make of them: the tables hold what those printed.

use virtwork_gen::config::fields::Value;
use virtwork_gen::diagnostic::Problems;
use virtwork_gen::node::{Node, NodeValue};
use virtwork_gen::value::{PgSize, Quantity};

/// Bytes by `resource.ParseQuantity` (k8s.io/apimachinery) and the pattern of a quantity in KubeVirt's schema, rounded up.
/// What is no size of a lab stands as `None`: below 1Mi, above 1Ei, and what either of the two refuses.
#[rustfmt::skip]
const QUANTITIES: &[(&str, Option<u128>)] = &[
    ("1Ei", Some(1152921504606846976)),
    ("10737418240", Some(10737418240)),
    ("1.1Gi", Some(1181116007)),
    (".5Ti", Some(549755813888)),
    ("1e10", Some(10000000000)),
    ("1E", Some(1000000000000000000)),
    ("129e6", Some(129000000)),
    ("+5Gi", Some(5368709120)),
    ("128974848", Some(128974848)),
    ("5.Gi", Some(5368709120)),
    (".Gi", None),
    ("1e", None),
    ("0x10", None),
    ("1_000", None),
    ("2147483648000m", Some(2147483648)),
    ("512m", None),
    ("1e-3", None),
    ("00010Gi", Some(10737418240)),
    ("1i", None),
    (".", None),
    ("+.5Gi", Some(536870912)),
    ("++1Gi", None),
    ("1..2Gi", None),
    ("1.2.3Gi", None),
    ("10Zi", None),
    ("10GB", None),
    ("10gi", None),
    ("10K", None),
    ("10k", None),
    ("0", None),
    ("0Gi", None),
    ("-5Gi", None),
    ("16Ei", None),
    ("1e400", None),
    ("1E5", None),
    ("1e+9", Some(1000000000)),
    ("1E-2", None),
    ("1.5e9", Some(1500000000)),
    ("1e1.5", None),
    ("1Ei3", None),
    ("1048575", None),
    ("1048576", Some(1048576)),
    ("1048575.5", Some(1048576)),
    ("1.000Gi", Some(1073741824)),
    ("999999999999999999", Some(999999999999999999)),
    ("1n", None),
    ("3000000000000000000n", Some(3000000000)),
    ("3000000000000000u", Some(3000000000)),
    ("1152921504606846976", Some(1152921504606846976)),
    ("e3", None),
    ("Gi", None),
    ("+", None),
    ("1P", Some(1000000000000000)),
    ("1Pi", Some(1125899906842624)),
    ("1T", Some(1000000000000)),
    ("1M", None),
    ("1Mi", Some(1048576)),
    ("1Ki", None),
    ("1024Ki", Some(1048576)),
    ("12345678901234567890n", Some(12345678902)),
    ("10Gi ", Some(10737418240)),
    (" 10Gi", Some(10737418240)),
    ("1 0Gi", None),
    ("", None),
];

/// Megabytes by `postgres -C wal_keep_size` of PostgreSQL 15. `None` is also what gen does not take: a number without its
/// unit, octal and hexadecimal digits, no limit, and what PostgreSQL rounds to nothing.
#[rustfmt::skip]
const POSTGRESQL_SIZES: &[(&str, Option<u128>)] = &[
    ("100 GB", Some(102400)),
    ("0.5GB", Some(512)),
    ("1e3MB", Some(1000)),
    ("30.1GB", Some(30822)),
    ("0.1TB", Some(104448)),
    ("1.5GB", Some(1536)),
    ("100kB", None),
    ("1500kB", Some(1)),
    ("1536kB", Some(2)),
    ("0x10MB", None),
    ("0256MB", None),
    ("0800MB", None),
    ("0", Some(0)),
    ("00", Some(0)),
    ("256", None),
    ("-1", None),
    ("-5MB", None),
    (".5GB", Some(512)),
    ("5.GB", Some(5120)),
    ("+5GB", Some(5120)),
    ("100gb", None),
    ("256M", None),
    ("262144kB", Some(256)),
    ("1073741824B", Some(1024)),
    (" 7GB", Some(7168)),
    ("7GB ", Some(7168)),
    ("1e3", None),
    ("1e400MB", None),
    ("3000TB", None),
    ("2047TB", Some(2146435072)),
    ("2048TB", None),
    ("2147483647MB", Some(2147483647)),
    ("2147483648MB", None),
    ("0.0004GB", None),
    ("0.5MB", None),
    ("1.5MB", Some(2)),
    ("2.5MB", Some(2)),
    ("1e-3GB", Some(1)),
    ("1E3MB", Some(1000)),
    ("1e+3MB", Some(1000)),
    ("1eMB", None),
    ("nan", None),
    ("inf", None),
    ("GB", None),
    ("7 G B", None),
    ("1_000MB", None),
    ("00.5GB", Some(512)),
    ("0.9999MB", Some(1)),
    ("1023.9999kB", Some(1)),
    ("0.0005TB", Some(1024)),
    ("12345.678GB", Some(12641974)),
    ("7\tGB", Some(7168)),
    ("1e0.5GB", None),
    ("1..5GB", None),
    ("0x1p3MB", None),
    ("1e3GB", Some(1024000)),
    ("0e5MB", Some(0)),
    ("-0", Some(0)),
    ("-0MB", Some(0)),
];

fn read<T: Value>(text: &str) -> Option<T> {
    let node =
        Node { value: NodeValue::Text(text.to_owned()), span: 0..0, path: "vm.data-disk-size".to_owned() };
    T::read(&node, &mut Problems::default())
}

#[test]
fn a_quantity_is_read_as_kubernetes_reads_it() {
    for (text, bytes) in QUANTITIES {
        let quantity: Option<Quantity> = read(text);
        assert_eq!(quantity.as_ref().map(Quantity::bytes), *bytes, "{text:?}");
        // as it was typed: the server reads it the same way
        assert!(quantity.is_none_or(|quantity| quantity.to_string() == text.trim()), "{text:?}");
    }
}

#[test]
fn a_postgresql_size_is_read_as_postgresql_reads_it() {
    for (text, megabytes) in POSTGRESQL_SIZES {
        let size: Option<PgSize> = read(text);
        assert_eq!(size.map(|size| size.bytes() >> 20), *megabytes, "{text:?}");
    }
}
