#!/bin/bash
# rpms.sh TARGET GOLDEN: NAME.tar for the dnf stand-in, from the files that installing PostgreSQL brought to Debian
# (GOLDEN is that layer), in the places where Fedora's packages have them.
set -euo pipefail
here=$(dirname "$0")
target=$1 golden=$2
mkdir -p "$target"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
major=$(basename "$golden"/usr/lib/postgresql/*)

# pack NAME FILE…: FILE relative to $stage/NAME
pack() {
  tar -C "$stage/$1" --owner=0 --group=0 -cf "$target/$1.tar" .
}

client=(psql pg_isready pg_dump pg_restore createdb dropdb)
contrib=(pgbench)
mkdir -p "$stage"/{postgresql,postgresql-server,postgresql-contrib,qemu-guest-agent}/usr/bin \
  "$stage/postgresql/usr/lib" "$stage/postgresql-server/usr/lib/postgresql/$major" "$stage/postgresql-server/usr/share" \
  "$stage/postgresql-server/var/lib/rpm" "$stage/qemu-guest-agent/usr/sbin" \
  "$stage/qemu-guest-agent/usr/lib/systemd/system"
cp -a "$golden/usr/lib/x86_64-linux-gnu" "$stage/postgresql/usr/lib/"
cp -a "$golden/usr/share/postgresql" "$stage/postgresql-server/usr/share/"
cp -a "$golden/usr/lib/postgresql/$major/lib" "$stage/postgresql-server/usr/lib/postgresql/$major/"
# Links in /usr/bin: PostgreSQL finds its library relative to where its programs really are.
for program in "$golden/usr/lib/postgresql/$major/bin"/*; do
  name=${program##*/}
  case " ${client[*]} | ${contrib[*]} " in
    *" $name "*"|"*) package=postgresql ;;
    *"|"*" $name "*) package=postgresql-contrib ;;
    *) package=postgresql-server ;;
  esac
  install -D "$program" "$stage/$package/usr/lib/postgresql/$major/bin/$name"
  ln -s "../lib/postgresql/$major/bin/$name" "$stage/$package/usr/bin/$name"
done
# Just-in-time compilation is a package of its own on Fedora.
rm -rf "$stage"/postgresql/usr/lib/x86_64-linux-gnu/lib{LLVM,z3}* "$stage/postgresql-server/usr/lib/postgresql/$major/lib"/{bitcode,llvmjit}*
cp -r --preserve=mode "$here/rpms/postgresql-server/." "$stage/postgresql-server/"
chmod 0755 "$stage"/postgresql-server/usr/bin/postgresql-setup "$stage"/postgresql-server/usr/libexec/*
sed -i "s/@MAJOR@/$major/g" "$stage/postgresql-server/usr/libexec/postgresql-check-db-dir"
# Fedora's own defaults.
cat >>"$stage/postgresql-server/usr/share/postgresql/$major/postgresql.conf.sample" <<'CONF'
unix_socket_directories = '/run/postgresql, /tmp'
logging_collector = on
log_filename = 'postgresql-%a.log'
CONF
cat >"$stage/postgresql-server/var/lib/rpm/postgresql-server.post" <<'POST'
getent group postgres >/dev/null || groupadd -g 26 -o -r postgres
getent passwd postgres >/dev/null || useradd -M -g postgres -o -r -d /var/lib/pgsql -s /bin/bash -u 26 postgres
install -d -o postgres -g postgres -m 0700 /var/lib/pgsql /var/lib/pgsql/data /var/lib/pgsql/backups
systemd-tmpfiles --create postgresql.conf
ldconfig
POST
cp -a "$golden/usr/sbin/qemu-ga" "$stage/qemu-guest-agent/usr/sbin/"
cp -a "$golden/usr/lib/systemd/system/qemu-guest-agent.service" "$stage/qemu-guest-agent/usr/lib/systemd/system/"
mkdir -p "$stage/qemu-guest-agent/usr/lib/x86_64-linux-gnu"
for name in postgresql postgresql-server postgresql-contrib qemu-guest-agent; do
  pack "$name"
done
# Packages that the random configs add.
for name in tree jq; do
  mkdir -p "$stage/$name/usr/share/$name"
  pack "$name"
done
