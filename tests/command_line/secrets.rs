//! The secrets file, and what becomes of the passwords in it.

use crate::transcript::{GREP, KEYLESS, bash, empty, lab};
use virtwork_gen::diagnostic::Code;

const EXPOSED: &str = "note[passwords-readable-by-others]: others can read the passwords in `gen.secrets.yaml`; `chmod 600 gen.secrets.yaml` \
                       keeps them yours\n";
const IN_CLEAR: &str = "note[passwords-in-clear]: `out/secret-db-credentials.yaml` holds the passwords in clear; keep it out of Git, or \
                        use `credentials.existing-secret`\n";

#[test]
fn a_missing_password_is_added_and_the_rest_stays() {
    for (text, keys, added) in [
        ("# ours\nclient-password: 'x y'", "`replication-password`", "\nreplication-password: …\n"),
        ("# nothing yet\n", "`replication-password` and `client-password`", "…\nclient-password: …\n"),
        ("", "`replication-password` and `client-password`", "…\nclient-password: …\n"),
    ] {
        let note = format!(
            "note[passwords-added]: added a random {keys} to `gen.secrets.yaml`; keep it, and keep it out of Git\n"
        );
        lab("")
            .file("gen.secrets.yaml", text)
            .sh("chmod 644 gen.secrets.yaml")
            .run(bash("gen > /dev/null").stderr(&note).writes(["gen.secrets.yaml"]))
            .reads("gen.secrets.yaml", &format!("{text}{added}"))
            .is_private("gen.secrets.yaml");
    }
}

#[test]
fn a_flow_mapping_cannot_be_added_to() {
    let message = "cannot add `client-password` to `gen.secrets.yaml`";
    lab("").file("gen.secrets.yaml", "{replication-password: not-a-secret}").run(bash("gen").refuses(
        Code::CannotAddPasswords,
        message,
        "write one `key: \"password\"` on each line",
    ));
}

#[test]
fn a_complete_secrets_file_is_not_touched() {
    lab("name: db\n")
        .sh("chmod 440 gen.secrets.yaml")
        .run(bash("gen > /dev/null").stderr(EXPOSED))
        .run(bash("gen -o out").stderr(&format!("{EXPOSED}{IN_CLEAR}")).writes(["out/…"]));
}

#[test]
fn a_secrets_file_behind_a_link_stays_behind_it() {
    let note = "note[passwords-added]: added a random `replication-password` to `gen.secrets.yaml`; …\n";
    empty()
        .file("gen.yaml", "")
        .file("real.yaml", "client-password: kept\n")
        .sh("ln -s real.yaml gen.secrets.yaml")
        .run(bash("gen > /dev/null").stderr(note).writes(["real.yaml"]))
        .reads("real.yaml", "client-password: kept\nreplication-password: …\n")
        .is_private("real.yaml");
}

#[test]
fn a_secrets_file_that_is_none_is_refused_and_left_alone() {
    for (make, reason) in [
        ("ln -s vault/lab.yaml gen.secrets.yaml", "it is a link to `vault/lab.yaml`, which does not exist"),
        ("mkfifo gen.secrets.yaml", "it is a named pipe"),
        ("mkdir gen.secrets.yaml", "it is a directory"),
        ("ln -s /dev/zero gen.secrets.yaml", "it is a device"),
    ] {
        let message = format!("cannot read `gen.secrets.yaml`: {reason}");
        let help = "mend it, or name another file in `credentials.file`";
        empty()
            .sh(&format!("touch gen.yaml; {make}"))
            .run(bash("gen").refuses(Code::CannotRead, &message, help))
            .run(bash("gen -o out").refuses(Code::CannotRead, &message, help))
            .run(bash("gen -o out --check").refuses(Code::CannotRead, &message, help));
    }
}

#[test]
fn a_secrets_file_that_cannot_be_written_is_an_error() {
    let (message, help) =
        ("cannot write `/proc/none.yaml`: …", "make its directory writable, or set `credentials`");
    lab("credentials: {file: /proc/none.yaml}\n")
        .run(bash("gen").refuses(Code::CannotWrite, message, help))
        .run(bash("gen -o new/out").refuses(Code::CannotWrite, message, help))
        .file("gen.yaml", "credentials: {file: folder}\n")
        .sh("mkdir folder")
        .run(bash("gen").refuses(
            Code::CannotRead,
            "cannot read `folder`: it is a directory",
            "mend it, or …",
        ));
}

#[test]
fn the_secrets_file_lies_beside_the_config() {
    let place = empty();
    place.file("lab/gen.yaml", "").file("lab/other.yaml", "credentials: {file: other.secrets.yaml}\n");
    for (line, secrets) in [
        ("gen lab/gen.yaml > /dev/null", "lab/gen.secrets.yaml"),
        ("gen lab/other.yaml > /dev/null", "lab/other.secrets.yaml"),
        ("gen - < lab/other.yaml > /dev/null", "other.secrets.yaml"),
    ] {
        place.run(
            bash(line)
                .stderr(&format!("note[passwords-added]: added … to `{secrets}`; …\n"))
                .writes([secrets]),
        );
    }
}

#[test]
fn passwords_that_others_can_read_are_told() {
    let bundle = "note[passwords-readable-by-others]: the bundle holds the passwords in clear, and others can read the file it goes to; \
                  `chmod 600 'a bundle.yaml'` keeps it yours\n";
    let file = "note[passwords-readable-by-others]: others can read the passwords in `out/secret-db-credentials.yaml`; \
                `chmod 600 out/secret-db-credentials.yaml` keeps them yours\n";
    let mended = "note[passwords-readable-by-others]: `out/secret-db-credentials.yaml` could be read by others; now only by you\n";
    lab("name: db\n")
        .run(bash("umask 077; gen > private.yaml").writes(["private.yaml"]))
        .run(bash("umask 022; gen > 'a bundle.yaml'").stderr(bundle).writes(["a bundle.yaml"]))
        .run(bash("chmod 600 'a bundle.yaml'; gen > 'a bundle.yaml'").writes(["a bundle.yaml"]))
        .sh("chmod 644 gen.secrets.yaml")
        .run(bash("gen > /dev/null").stderr(EXPOSED))
        .run(bash("gen -o out").stderr(&format!("{EXPOSED}{IN_CLEAR}")).writes(["out/…"]))
        .run(bash("gen -o out --check").stderr(EXPOSED))
        .sh("chmod 600 gen.secrets.yaml; chmod 644 out/secret-db-credentials.yaml")
        .run(bash("gen -o out --check").stderr(file))
        .run(
            bash("gen -o out")
                .stderr(&format!("{IN_CLEAR}{mended}"))
                .writes(["out/secret-db-credentials.yaml"]),
        )
        .is_private("out/secret-db-credentials.yaml")
        .file("gen.yaml", KEYLESS)
        .run(bash("umask 022; gen > public.yaml").writes(["public.yaml"]));
}

#[test]
fn passwords_in_a_directory_are_announced_and_private() {
    lab("name: db\n")
        .run(bash("gen -o out").stderr(IN_CLEAR).writes(["out/…"]))
        .is_private("out/secret-db-credentials.yaml")
        .run(bash(format!("{GREP} out/*")).stdout("out/secret-db-credentials.yaml\n"))
        .run(bash("sed -n 2p out/secret-db-credentials.yaml").stdout("# …keep it out of Git…\n"));
}

#[test]
fn an_existing_secret_leaves_no_password_anywhere() {
    lab(KEYLESS)
        .run(bash(format!("gen | {GREP}")).fails(1))
        .sh("rm gen.secrets.yaml")
        .run(bash("gen -o out").writes(["out/…"]));
}

#[test]
fn passwords_in_a_directory_are_replaced_by_those_of_its_owner_only() {
    const OTHERS: &str = "`both/secret-db-credentials.yaml` holds other values of `replication-password` and \
                          `client-password` than the random ones for ";
    const CHANGE: &str = "note[passwords-change]: the passwords in `both/secret-db-credentials.yaml` change; VMs that run take them at \
                          their next start\n";
    const IN_CLEAR: &str =
        "note[passwords-in-clear]: `both/secret-db-credentials.yaml` holds the passwords in clear; …\n";
    let fast = format!("{OTHERS}`fast/gen.secrets.yaml`");
    let bring_back = "if it is of this lab, bring `replication-password` and `client-password` back into \
                      `fast/gen.secrets.yaml` (there in base64); else choose another directory";
    empty()
        .file("fast/gen.yaml", "name: db\n")
        .file("slow/gen.yaml", "name: db\n")
        .sh("gen fast/gen.yaml -o both; cp fast/gen.secrets.yaml kept.yaml")
        .run(bash("gen slow/gen.yaml -o both").refuses(
            Code::OtherPasswords,
            &format!("{OTHERS}`slow/gen.secrets.yaml`"),
            "…",
        ))
        // a secrets file that is lost or lost a line; brought back, all is well
        .sh("rm fast/gen.secrets.yaml")
        .run(bash("gen fast/gen.yaml -o both").refuses(Code::OtherPasswords, &fast, bring_back))
        .file("fast/gen.secrets.yaml", "client-password: kept\n")
        .run(bash("gen fast/gen.yaml -o both").refuses(
            Code::OtherPasswords,
            "`both/secret-db-credentials.yaml` holds other values of `replication-password` than …",
            "…bring `replication-password` back into …",
        ))
        .sh("cp kept.yaml fast/gen.secrets.yaml; chmod 600 fast/gen.secrets.yaml")
        .run(bash("gen fast/gen.yaml -o both").stderr(IN_CLEAR))
        // changed by hand they are meant, and told before anything is written; other labels are other labels only
        .sh("sed -i s/[0-9]/x/ fast/gen.secrets.yaml")
        .run(
            bash("gen fast/gen.yaml -o both --check")
                .fails(1)
                .stdout("--- both/secret-db-credentials.yaml\n…")
                .stderr(&format!("{CHANGE}both is out of date: 1 changed, 0 missing, 0 stale; run …\n")),
        )
        .run(
            bash("gen fast/gen.yaml -o both")
                .stderr(&format!("{CHANGE}{IN_CLEAR}"))
                .writes(["both/secret-db-credentials.yaml"]),
        )
        .file("fast/gen.yaml", "name: db\nlabels: {a: b}\n")
        .run(bash("gen fast/gen.yaml -o both").stderr(IN_CLEAR).writes(["both/…"]));
}

#[test]
fn a_lost_seed_of_certificates_is_asked_for() {
    const PATRONI: &str =
        "name: db\nfailover: patroni\nguest: {image: \"quay.io/containerdisks/debian:13\"}\n";
    empty()
        .file("gen.yaml", PATRONI)
        .run(
            bash("gen -o out")
                .stderr("…added a random `replication-password`, `client-password` and `ca-seed` to …")
                .writes(["gen.secrets.yaml", "out/…"]),
        )
        .sh("sed -i /ca-seed/d gen.secrets.yaml")
        .run(bash("gen -o out").refuses(
            Code::OtherPasswords,
            "`out/secret-db-credentials.yaml` holds other values of `ca-seed` than …",
            "…",
        ))
        .run(bash("gen -o out --check").refuses(
            Code::MissingPasswords,
            "no `ca-seed` in `gen.secrets.yaml`",
            "`failover: patroni` needs it: …",
        ));
}
