//! Files with holes. What fills a hole is quoted by the kind of the file, so no template quotes and none can forget to.

use crate::yaml;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

/// A file of `templates/` whose name ends with `.j2`.
pub struct Template {
    /// Its name without that: the extension says how values are quoted.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
}

/// The template of that name.
macro_rules! template {
    ($name:literal) => {
        $crate::guest::template::Template {
            name: $name,
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $name, ".j2")),
        }
    };
}
pub(super) use template;

#[cfg(test)]
impl Template {
    /// The names of its holes and of what its conditions ask for.
    pub fn variables(&self) -> std::collections::BTreeSet<String> {
        let environment = Environment::empty();
        let template = environment.template_from_named_str(self.name, self.source).unwrap();
        template.undeclared_variables(false).into_iter().collect()
    }
}

/// What renders templates. One serves a whole run.
pub struct Renderer(Environment<'static>);

impl Renderer {
    /// Without Jinja's filters and tests, which cost more than all our templates and which none of them needs.
    pub fn new() -> Self {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_formatter(|out, state, value| {
            let refuse = |reason| Error::new(ErrorKind::InvalidOperation, reason);
            let kind = Kind::of(state.name()).ok_or_else(|| refuse("no values are quoted for"))?;
            let text = value.to_str().filter(|_| !value.is_undefined());
            let text = text.ok_or_else(|| refuse("only texts fill the holes of"))?;
            out.write_str(&kind.quote(&text).map_err(refuse)?).map_err(Error::from)
        });
        Self(environment)
    }

    /// The file with its holes filled.
    ///
    /// # Errors
    /// What cannot stand in a file of this kind.
    pub fn render(&self, template: &Template, holes: Value) -> Result<String, String> {
        self.render_each(template, [holes]).map(|files| files.concat())
    }

    /// One file for each set of values. To read a template costs more than to fill it.
    ///
    /// # Errors
    /// What cannot stand in a file of this kind.
    pub fn render_each<H>(&self, template: &Template, holes: H) -> Result<Vec<String>, String>
    where
        H: IntoIterator<Item = Value>,
    {
        let rendered = self.0.template_from_named_str(template.name, template.source).and_then(|read| {
            holes.into_iter().map(|holes| read.render(holes)).collect::<Result<Vec<_>, _>>()
        });
        // minijinja drops the last line break of a template
        rendered.map(|files| files.into_iter().map(|text| text + "\n").collect()).map_err(|error| {
            let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            format!("{reason} `{}`", template.name)
        })
    }
}

/// Files that quote alike, by their extension.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Shell assignments.
    Shell,
    /// PostgreSQL's settings.
    Conf,
    /// What cloud-init reads, with PyYAML.
    Yaml,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "env" => Some(Self::Shell),
            "conf" => Some(Self::Conf),
            "yaml" => Some(Self::Yaml),
            _ => None,
        }
    }

    /// The text so that the reader of such a file reads it back unchanged.
    fn quote(self, text: &str) -> Result<String, &'static str> {
        const NUL: &str = "a NUL character cannot stand in";
        match self {
            // C strings
            Self::Shell | Self::Conf if text.contains('\0') => Err(NUL),
            Self::Shell => Ok(format!("'{}'", text.replace('\'', r"'\''"))),
            Self::Conf => Ok(conf(text)),
            Self::Yaml => Ok(yaml::line_scalar(text)),
        }
    }
}

/// A value of postgresql.conf. Between its quotes a backslash escapes, a quote is doubled, and a line ends it
/// (guc-file.l).
pub fn conf(value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('\'', "''").replace('\n', r"\n");
    format!("'{value}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// Texts that some quoting trips over.
    fn hostile() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "'",
            "''",
            "\"",
            "\\",
            "\\'",
            "\n",
            "\n\n",
            "\r\n",
            "\t",
            " ",
            " #",
            ": ",
            "- ",
            "$(id)",
            "${HOME}",
            "`id`",
            "!",
            "yes",
            "No",
            "on",
            "~",
            "null",
            "1e3",
            "0x10",
            "1_000",
            "12:30",
            "2001-01-01",
            "{{ x }}",
            "%s",
            "\\n",
            "\\x41",
            "\\101",
            "END",
            "é",
            "日本",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "\u{1f980}",
        ]);
        let text = prop_oneof![pieces.prop_map(str::to_owned), "\\PC{0,6}", "[^\\x00]{0,3}"];
        prop::collection::vec(text, 0..5).prop_map(|pieces| pieces.concat())
    }

    /// A file of so many holes, each on a line of its own behind what `line` says.
    fn rendered(name: &'static str, line: impl Fn(usize) -> String, texts: &[String]) -> String {
        let lines: Vec<_> =
            (0..texts.len()).map(|number| format!("{}{{{{ holes[{number}] }}}}\n", line(number))).collect();
        let source: &'static str = lines.concat().leak();
        Renderer::new().render(&Template { name, source }, context! { holes => texts.to_vec() }).unwrap()
    }

    /// As PostgreSQL reads it: guc-file.l finds the end of the value, GUC_scanstr what it means.
    fn read_conf(line: &str) -> String {
        let inside = line.split_once(" = '").unwrap().1.strip_suffix('\'').unwrap();
        assert!(!inside.contains('\n'));
        let mut chars = inside.chars();
        let mut value = String::new();
        while let Some(c) = chars.next() {
            value.push(match c {
                '\'' => chars.next().filter(|second| *second == '\'').unwrap(),
                '\\' => match chars.next().unwrap() {
                    'b' => '\x08',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    '0'..='7' => panic!("an octal escape: {line}"),
                    other => other,
                },
                other => other,
            });
        }
        value
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

        #[test]
        fn a_shell_reads_back_what_an_env_file_was_given(texts in prop::collection::vec(hostile(), 1..40)) {
            let file = rendered("values.env", |number| format!("V{number}="), &texts);
            let script = r#"set -eu; . /dev/stdin; for ((i = 0; i < $1; i++)); do v=V$i; printf '%s\0' "${!v}"; done"#;
            let mut shell = Command::new("bash")
                .args(["-c", script, "bash", &texts.len().to_string()])
                .env_clear()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            shell.stdin.take().unwrap().write_all(file.as_bytes()).unwrap();
            let read = String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap();
            let expected: String = texts.iter().map(|text| format!("{text}\0")).collect();
            prop_assert_eq!(read, expected, "{}", file);
        }

        #[test]
        fn postgresql_reads_back_what_a_conf_file_was_given(texts in prop::collection::vec(hostile(), 1..40)) {
            let file = rendered("values.conf", |number| format!("v.v{number} = "), &texts);
            let read: Vec<_> = file.strip_suffix('\n').unwrap().split('\n').map(read_conf).collect();
            prop_assert_eq!(read, texts, "{}", file);
        }

        #[test]
        fn a_reader_of_yaml_reads_back_what_a_yaml_file_was_given(texts in prop::collection::vec(hostile(), 1..40)) {
            let file = rendered("values.yaml", |_| "- ".to_owned(), &texts);
            let read: Vec<serde_yaml::Value> = serde_yaml::from_str(&file).unwrap();
            let texts: Vec<_> = texts.into_iter().map(serde_yaml::Value::String).collect();
            prop_assert_eq!(read, texts, "{}", file);
        }
    }

    #[test]
    fn what_a_file_cannot_hold_is_refused() {
        let render = |name, holes| {
            Renderer::new().render(&Template { name, source: "{{ hole }}" }, holes).unwrap_err()
        };
        for name in ["lab.env", "postgresql.conf"] {
            assert_eq!(
                render(name, context! { hole => "a\0b" }),
                format!("a NUL character cannot stand in `{name}`")
            );
            assert!(render(name, context! {}).contains("undefined"), "a hole that nothing fills");
            assert_eq!(
                render(name, context! { hole => true }),
                format!("only texts fill the holes of `{name}`")
            );
        }
        assert_eq!(render("a.toml", context! { hole => "a" }), "no values are quoted for `a.toml`");
    }
}
