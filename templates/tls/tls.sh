# shellcheck shell=bash
# TLS between clients and servers. Sourced by lib.sh in labs that have it.

# In this directory: SELinux lets PostgreSQL read none elsewhere that a set-up writes.
TLS=/run/postgresql/virtwork.tls

# tls_words HOST ROLE [KEY]: what a connection to a server says besides. It takes nobody for the server who has no certificate
# of that name. KEY is the file with the role's private key, where it logs in by a certificate.
tls_words() {
  printf ' sslmode=verify-full sslrootcert=%s/ca.crt' "$TLS"
  if [[ $2 == replicator && $TLS_REPLICATOR == certificate ]]; then
    printf ' sslcert=%s/replicator.crt sslkey=%s' "$TLS" "${3:-$TLS/replicator.key}"
  else
    # A file that is not there: libpq would look into the home directory, which may be that of another user.
    printf ' sslcert=%s/none.crt' "$TLS"
  fi
}

# At each boot, before a server starts: what this node shows to its clients, and what it knows the others by.
set_up_tls() {
  if [[ $TLS_SOURCE == derived ]]; then
    attach credentials
    make_certificates derive "/run/virtwork/credentials/$TLS_SEED_KEY" "$TLS"
    detach credentials
    return
  fi
  attach tls
  if [[ $TLS_REPLICATOR == certificate ]]; then
    attach tls-replicator
    make_certificates copy /run/virtwork/tls "$TLS" /run/virtwork/tls-replicator
    detach tls-replicator
  else
    make_certificates copy /run/virtwork/tls "$TLS"
  fi
  detach tls
  systemctl --no-block start virtwork-certificates.timer
}

# set_up_authority DIRECTORY: a client knows the servers by it, and shows no certificate itself.
set_up_authority() {
  if [[ $TLS_SOURCE == derived ]]; then
    attach credentials
    make_certificates derive-authority "/run/virtwork/credentials/$TLS_SEED_KEY" "$1"
    detach credentials
    return
  fi
  attach tls
  make_certificates copy-authority /run/virtwork/tls "$1"
  detach tls
  systemctl --no-block start virtwork-certificates.timer
}

# The files on such a disk are 0644, so the directory above has to be closed.
attach() {
  local device directory=/run/virtwork/$1
  device=$(disk_path "$1")
  wait_for_disk "$device"
  install -d -m 0700 /run/virtwork "$directory"
  mountpoint -q "$directory" || mount -o ro,nosuid,nodev,noexec "$device" "$directory"
}

detach() {
  umount "/run/virtwork/$1"
}

make_certificates() {
  local output
  command -v openssl >/dev/null ||
    refuse "not installed: openssl; nothing was touched; use an image that has it, or let this one install packages"
  output=$(python3 -I /usr/local/lib/virtwork/certificates.py "$@" 2>&1) || {
    umount /run/virtwork/{credentials,tls,tls-replicator} 2>/dev/null || true
    refuse "no certificate: $(reason "$output"); nothing was touched; mend the Secret, then stop and start the VM"
  }
  [[ -z $output ]] || log "$output"
}
