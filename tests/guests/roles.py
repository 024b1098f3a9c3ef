#!/usr/bin/python3
"""Who has the password of the role pgbench tries to become more than that, on a PostgreSQL server of this machine.

    tests/guests/roles.py        needs root, PostgreSQL's server

All of it runs in namespaces of its own, which end with it: network, mounts and processes.
"""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import load  # noqa: E402
from load import AS_POSTGRES, BINARIES, REPOSITORY, WORK, expect, run  # noqa: E402

# Which an owner of a database may make, and anybody in the schema public of PostgreSQL 13 and 14.
HOSTILE = """
CREATE FUNCTION public.take() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE 'ALTER ROLE pgbench SUPERUSER'; RETURN 2; EXCEPTION WHEN insufficient_privilege THEN RETURN 2; END $$;
"""
VIEW = """
ALTER TABLE pgbench_branches RENAME TO branches;
CREATE VIEW pgbench_branches AS SELECT public.take() AS bid FROM generate_series(1, 2) WHERE public.take() = 2;
"""
FORMAT = """
CREATE FUNCTION public.format(text, name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.take(); RETURN ''; END $$;
"""


def psql(user, database, statement):
    return run(f"{BINARIES}/psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-h", "/run/postgresql", "-U", user, "-d", database, "-c", statement)


def script(text):
    program = ". /usr/local/lib/virtwork/lib.sh; . /usr/local/lib/virtwork/database.sh; REPLICATION_PASSWORD=Kor7Repl CLIENT_PASSWORD=Kor7Client; "
    done = subprocess.run(["bash", "-c", program + text], capture_output=True, text=True)
    expect(done.returncode == 0, f"{text}: {done.stdout}{done.stderr}")
    return done.stdout


def is_superuser():
    return psql("postgres", "postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = 'pgbench'") == "t"


def scale_is_checked():
    psql("pgbench", "pgbench", HOSTILE + VIEW)
    said = script("check_scale")
    expect(not is_superuser(), "pgbench became a superuser by a view in the place of a table")
    expect(said == "", f"what was said of the scale: {said}")


def functions_of_the_same_name():
    psql("postgres", "postgres", "GRANT CREATE ON SCHEMA public TO PUBLIC")
    psql("pgbench", "postgres", HOSTILE + FORMAT)
    script("""superuser_sql -c "SELECT format('%I', rolname) FROM pg_roles LIMIT 1" """)
    expect(not is_superuser(), "pgbench became a superuser by a function in public")


def passwords_unseen():
    """Members of pg_monitor see what superusers run, and the server's log is copied by everybody."""
    psql("postgres", "postgres", "GRANT pg_monitor TO pgbench")
    for setting in ("log_statement = 'all'", "log_min_duration_statement = 0", "debug_print_parse = on"):
        psql("postgres", "postgres", f"ALTER SYSTEM SET {setting}")
    psql("postgres", "postgres", "SELECT pg_reload_conf()")
    # A trigger of the test's own looks at the moment at which the statement runs.
    psql("postgres", "postgres", "CREATE TABLE seen AS SELECT query FROM pg_stat_activity WITH NO DATA")
    peeper = subprocess.Popen([*AS_POSTGRES, f"{BINARIES}/psql", "-XAtq", "-h", "/run/postgresql", "-U", "postgres", "-d", "postgres", "-c", """
        DO $$ BEGIN FOR turn IN 1..40000 LOOP
          PERFORM pg_stat_clear_snapshot();
          INSERT INTO seen SELECT query FROM pg_stat_activity WHERE query LIKE '%Kor7%' AND pid <> pg_backend_pid();
        END LOOP; END $$"""], stderr=subprocess.DEVNULL)
    while peeper.poll() is None:
        script("ensure_roles")
    found = psql("postgres", "postgres", "SELECT count(*) FROM seen")
    expect(found == "0", f"{found} looks saw a password in pg_stat_activity")
    expect("Kor7Client" not in (WORK / "server.log").read_text(), "a password in the server's log")


def stories():
    (pathlib.Path("/etc/virtwork") / "lab.env").write_text("LAB=db\nPGBENCH_SCALE=2\n")
    for name in ("lib.sh", "database.sh"):
        run("install", REPOSITORY / "templates/common" / name, "/usr/local/lib/virtwork")
    return (scale_is_checked, functions_of_the_same_name, passwords_unseen)


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        load.inside(stories)
    else:
        sys.exit(load.outside(__file__))
