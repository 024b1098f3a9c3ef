//! The instancetypes and preferences that KubeVirt brings along (kubevirt/common-instancetypes), as far as admission
//! asks.
//!
//! A preference may also spread the CPUs of an instancetype over sockets, cores and threads and refuse those that it
//! cannot divide (`.dpdk`: by 8, `.realtime`: by 4). It requires as many at least, and all instancetypes have a power
//! of two.

/// The release of common-instancetypes whose figures these are. A cluster may have another one; sizes do not change,
/// and what a preference requires rarely does.
pub const COMMON_INSTANCETYPES: &str = "v1.7.0";

/// A `VirtualMachineClusterInstancetype`.
#[derive(Debug, PartialEq, Eq)]
pub struct Instancetype {
    /// Its name.
    pub name: &'static str,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory of the guest.
    pub mib: u32,
    /// Whether it sets `ioThreadsPolicy`, which the VM may then not.
    pub sets_io_threads_policy: bool,
}

/// A `VirtualMachineClusterPreference`.
#[derive(Debug, PartialEq, Eq)]
pub struct Preference {
    /// Its name.
    pub name: &'static str,
    /// Virtual CPUs that it requires.
    pub cpus: u32,
    /// Memory that it requires.
    pub mib: u32,
    /// Whether it is made for Linux, by its `vm.kubevirt.io/os`.
    pub is_for_linux: bool,
}

/// The instancetype of this name.
pub fn instancetype(name: &str) -> Option<&'static Instancetype> {
    INSTANCETYPES.iter().find(|instancetype| instancetype.name == name)
}

/// The preference of this name.
pub fn preference(name: &str) -> Option<&'static Preference> {
    PREFERENCES.iter().find(|preference| preference.name == name)
}

const fn instance(name: &'static str, cpus: u32, mib: u32, sets_io_threads_policy: bool) -> Instancetype {
    Instancetype { name, cpus, mib, sets_io_threads_policy }
}

const fn prefer(name: &'static str, cpus: u32, mib: u32, is_for_linux: bool) -> Preference {
    Preference { name, cpus, mib, is_for_linux }
}

/// All instancetypes, by name.
#[rustfmt::skip]
pub const INSTANCETYPES: [Instancetype; 65] = [
    instance("cx1.2xlarge", 8, 16384, true),
    instance("cx1.2xlarge1gi", 8, 16384, true),
    instance("cx1.4xlarge", 16, 32768, true),
    instance("cx1.4xlarge1gi", 16, 32768, true),
    instance("cx1.8xlarge", 32, 65536, true),
    instance("cx1.8xlarge1gi", 32, 65536, true),
    instance("cx1.large", 2, 4096, true),
    instance("cx1.large1gi", 2, 4096, true),
    instance("cx1.medium", 1, 2048, true),
    instance("cx1.medium1gi", 1, 2048, true),
    instance("cx1.xlarge", 4, 8192, true),
    instance("cx1.xlarge1gi", 4, 8192, true),
    instance("d1.2xlarge", 8, 32768, true),
    instance("d1.2xmedium", 2, 4096, true),
    instance("d1.4xlarge", 16, 65536, true),
    instance("d1.8xlarge", 32, 131072, true),
    instance("d1.large", 2, 8192, true),
    instance("d1.medium", 1, 4096, true),
    instance("d1.micro", 1, 1024, true),
    instance("d1.nano", 1, 512, true),
    instance("d1.small", 1, 2048, true),
    instance("d1.xlarge", 4, 16384, true),
    instance("m1.2xlarge", 8, 65536, false),
    instance("m1.2xlarge1gi", 8, 65536, false),
    instance("m1.4xlarge", 16, 131072, false),
    instance("m1.4xlarge1gi", 16, 131072, false),
    instance("m1.8xlarge", 32, 262144, false),
    instance("m1.8xlarge1gi", 32, 262144, false),
    instance("m1.large", 2, 16384, false),
    instance("m1.large1gi", 2, 16384, false),
    instance("m1.xlarge", 4, 32768, false),
    instance("m1.xlarge1gi", 4, 32768, false),
    instance("n1.2xlarge", 16, 32768, false),
    instance("n1.4xlarge", 32, 65536, false),
    instance("n1.8xlarge", 64, 131072, false),
    instance("n1.large", 4, 8192, false),
    instance("n1.medium", 4, 4096, false),
    instance("n1.xlarge", 8, 16384, false),
    instance("o1.2xlarge", 8, 32768, false),
    instance("o1.4xlarge", 16, 65536, false),
    instance("o1.8xlarge", 32, 131072, false),
    instance("o1.large", 2, 8192, false),
    instance("o1.medium", 1, 4096, false),
    instance("o1.micro", 1, 1024, false),
    instance("o1.nano", 1, 512, false),
    instance("o1.small", 1, 2048, false),
    instance("o1.xlarge", 4, 16384, false),
    instance("rt1.2xlarge", 8, 32768, false),
    instance("rt1.4xlarge", 16, 65536, false),
    instance("rt1.8xlarge", 32, 131072, false),
    instance("rt1.large", 2, 8192, false),
    instance("rt1.medium", 1, 4096, false),
    instance("rt1.micro", 1, 1024, false),
    instance("rt1.small", 1, 2048, false),
    instance("rt1.xlarge", 4, 16384, false),
    instance("u1.2xlarge", 8, 32768, false),
    instance("u1.2xmedium", 2, 4096, false),
    instance("u1.4xlarge", 16, 65536, false),
    instance("u1.8xlarge", 32, 131072, false),
    instance("u1.large", 2, 8192, false),
    instance("u1.medium", 1, 4096, false),
    instance("u1.micro", 1, 1024, false),
    instance("u1.nano", 1, 512, false),
    instance("u1.small", 1, 2048, false),
    instance("u1.xlarge", 4, 16384, false),
];

/// All preferences, by name.
#[rustfmt::skip]
pub const PREFERENCES: [Preference; 54] = [
    prefer("alpine", 1, 512, true),
    prefer("centos.stream10", 1, 1536, true),
    prefer("centos.stream10.desktop", 1, 1536, true),
    prefer("centos.stream9", 1, 1536, true),
    prefer("centos.stream9.desktop", 1, 1536, true),
    prefer("centos.stream9.dpdk", 8, 1536, true),
    prefer("cirros", 1, 256, true),
    prefer("debian", 1, 512, true),
    prefer("fedora", 1, 2048, true),
    prefer("fedora.arm64", 1, 2048, true),
    prefer("fedora.s390x", 1, 2048, true),
    prefer("legacy", 0, 0, true),
    prefer("linux", 0, 0, true),
    prefer("linux.efi", 0, 0, true),
    prefer("linux.virtiotransitional", 0, 0, true),
    prefer("opensuse.leap", 1, 2048, true),
    prefer("opensuse.tumbleweed", 1, 2048, true),
    prefer("oraclelinux", 2, 4096, true),
    prefer("rhel.10", 1, 1536, true),
    prefer("rhel.10.arm64", 1, 1536, true),
    prefer("rhel.10.s390x", 1, 1536, true),
    prefer("rhel.7", 1, 1024, true),
    prefer("rhel.7.desktop", 1, 1024, true),
    prefer("rhel.8", 1, 1536, true),
    prefer("rhel.8.desktop", 1, 1536, true),
    prefer("rhel.8.dpdk", 8, 1536, true),
    prefer("rhel.9", 1, 1536, true),
    prefer("rhel.9.arm64", 1, 1536, true),
    prefer("rhel.9.desktop", 1, 1536, true),
    prefer("rhel.9.dpdk", 8, 1536, true),
    prefer("rhel.9.realtime", 4, 4096, true),
    prefer("rhel.9.s390x", 1, 1536, true),
    prefer("sles", 1, 2048, true),
    prefer("ubuntu", 1, 2048, true),
    prefer("windows.10", 1, 2048, false),
    prefer("windows.10.virtio", 1, 2048, false),
    prefer("windows.11", 2, 4096, false),
    prefer("windows.11.virtio", 2, 4096, false),
    prefer("windows.2k12", 1, 512, false),
    prefer("windows.2k12.virtio", 1, 512, false),
    prefer("windows.2k16", 1, 2048, false),
    prefer("windows.2k16.virtio", 1, 2048, false),
    prefer("windows.2k19", 1, 2048, false),
    prefer("windows.2k19.virtio", 1, 2048, false),
    prefer("windows.2k22", 1, 2048, false),
    prefer("windows.2k22.virtio", 1, 2048, false),
    prefer("windows.2k25", 1, 2048, false),
    prefer("windows.2k25.virtio", 1, 2048, false),
    prefer("windows.2k3", 1, 256, false),
    prefer("windows.2k8", 1, 512, false),
    prefer("windows.2k8.virtio", 1, 512, false),
    prefer("windows.7", 1, 2048, false),
    prefer("windows.7.virtio", 1, 2048, false),
    prefer("windows.xp", 1, 128, false),
];
