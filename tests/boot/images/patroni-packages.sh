# shellcheck shell=bash disable=SC2034  # sourced by the recipes
# What nodes of labs with Patroni have beside PostgreSQL.
PATRONI=(patroni python3-etcd etcd-server etcd-client haproxy openssl)
# What their guests may install besides.
FURTHER=(prometheus-postgres-exporter)
