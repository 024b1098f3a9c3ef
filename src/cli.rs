//! The command line. The comments are the help.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Generate a PostgreSQL streaming-replication lab for KubeVirt.
///
/// Reads a config and writes the Kubernetes objects of a primary VM under
/// pgbench load and of its replicas. It never talks to a cluster: the same
/// config and passwords give the same bytes.
#[derive(Debug, Parser)]
#[command(
    name = "gen",
    version,
    verbatim_doc_comment,
    after_help = "Examples:
  gen > bundle.yaml && oc apply --server-side -f bundle.yaml
  gen -o out/                write one file per object, for a GitOps repository
  gen -o out/ --check        in CI: is out/ what gen.yaml says?
  gen --print example        a config with every key

Exit status: 0 done, 1 --check found a difference, 2 bad config, bad usage or I/O."
)]
pub struct Cli {
    /// The config; `-` is standard input [default: gen.yaml, or built-in defaults where there is none]
    pub config: Option<PathBuf>,

    /// Write one file per object into DIR, which holds one lab, instead of a stream to standard output
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Write nothing. Alone: validate the config. With -o: show how DIR differs, exit 1 if it does
    #[arg(long)]
    pub check: bool,

    /// Print something instead of a bundle
    #[arg(long, value_name = "WHAT", conflicts_with_all = ["config", "output", "check"])]
    pub print: Option<Print>,

    /// Colour of messages; NO_COLOR is honoured
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// What `--print` prints.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Print {
    /// A config with every key, its default and its meaning
    Example,
}

/// When messages have colour.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}
