# shellcheck shell=bash disable=SC2034  # sourced by the recipes
# What nodes of labs with an archive have beside PostgreSQL, and openssl for certificates.
ARCHIVE=(pgbackrest barman-cli-cloud python3-boto3 openssl)
