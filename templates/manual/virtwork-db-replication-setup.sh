#!/bin/bash
# Runs at every boot of the node that begins a lab.
set -euo pipefail

# shellcheck disable=SC2034  # read by node.sh
ROLE=primary

# shellcheck source=templates/common/lib.sh
. /usr/local/lib/virtwork/lib.sh
# shellcheck source=templates/manual/setup.sh
. /usr/local/lib/virtwork/setup.sh

# A blank disk: a new database, unless another node has data. Then this is a lab that lives on without its old disk.
begin() {
  if is_cloning; then
    log "this node was to take the lab's data from another one and was cut off: it begins that again, and initialises nothing;" \
      "where no data is to be left, give all nodes, this one too, blank disks"
    clone
  elif hear_peers has_data; then
    log "this disk is blank, but $HOLDER has data of the lab, so nothing is initialised here: this node clones the primary;" \
      "where there is none, promote a node with \`virtwork-promote\`, or give all nodes, this one too, blank disks"
    clone
  elif [[ -n ${RESTORE_FROM:-} ]]; then
    restore_lab
  else
    initialise
  fi
}

# Sets HOLDER.
# shellcheck disable=SC2317  # called by hear_peers
has_data() {
  local peer state
  for peer in "${PEERS[@]}"; do
    read -r HOLDER state _ <<<"$peer"
    if [[ $state == @(primary|standby) ]]; then
      return 0
    fi
  done
  return 1
}

set_up
exit
