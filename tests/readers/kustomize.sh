#!/bin/bash
# What kustomize makes of a directory and of overlays over it.
#
#   kustomize.sh GEN WORK
set -euo pipefail
gen=$(realpath "$1")
work=$2
here=$(dirname "$(realpath "$0")")

rm -rf "$work"
mkdir -p "$work/overlay"
cd "$work"
GOBIN=$PWD/bin GOFLAGS='' go install sigs.k8s.io/kustomize/kustomize/v5@v5.6.0 2>install.log || { cat install.log >&2; exit 1; }

fail() {
  echo "kustomize: $*" >&2
  exit 1
}

# count TEXT FILE
count() {
  grep -cF -- "$1" "$2" || true
}

# the values that no reader may lose
{ cat "$here/../../snapshots/bundles/hostile-values/gen.yaml"; echo 'kustomization: true'; } >hostile.yaml
cp "$here/../../snapshots/bundles/passwords.yaml" gen.secrets.yaml
"$gen" hostile.yaml -o hostile 2>/dev/null
bin/kustomize build hostile >hostile.out || fail "cannot build hostile-values"

cat >gen.yaml <<'END'
name: db
kustomization: true
credentials: {existing-secret: db-passwords}
END
"$gen" gen.yaml -o base
cat >overlay/kustomization.yaml <<'END'
resources: [../base]
namespace: elsewhere
secretGenerator:
  - name: db-passwords
    literals: [replication-password=a, client-password=b]
labels:
  - pairs: {team: storage}
    includeSelectors: true
END
bin/kustomize build overlay >overlay.out
objects=$(count 'kind: ' <(grep '^kind: ' overlay.out))
[[ $(count '  namespace: elsewhere' overlay.out) == "$objects" ]] || fail "an object stayed in its namespace"
[[ $(count 'secretName: db-passwords-' overlay.out) == 2 ]] || fail "the VMs do not name the generated Secret"
# objects and generated Secret, three Services' selectors and both of a policy, two pods
[[ $(count 'team: storage' overlay.out) == $((objects + 5 + 2)) ]] || fail "selectors and pods differ in their labels"
