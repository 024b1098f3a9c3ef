#!/bin/bash
# Runs at every boot of a node that was made as a replica.
set -euo pipefail

# shellcheck disable=SC2034  # read by node.sh
ROLE=replica

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/manual/setup.sh
. /usr/local/lib/virtwork/setup.sh

# A blank disk: a clone of the primary.
begin() {
  clone
}

set_up
exit
