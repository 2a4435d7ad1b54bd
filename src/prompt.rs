//! The prompts: files that are versioned, compiled once and filled without surprises.
//!
//! A version is a folder, `prompts/{version}/`. What callers and documents say
//! goes into a template as a value and is never read as a template itself.
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use minijinja::{Environment, UndefinedBehavior, context};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chat::Passage;

/// The version that the program carries.
pub const EMBEDDED: &str = "v1";
/// The largest prompt file, in bytes.
const LARGEST: u64 = 64 << 10;
/// Steps that a template may take: a loop over passages needs hundreds.
const FUEL: u64 = 100_000;

const SYSTEM: &str = "system_prompt.txt";
const RAG: &str = "rag.txt";
const CLASSIFY: &str = "classify.txt";
const SUMMARY: &str = "summary.txt";

/// The files of the carried version. A folder that lacks one of them uses it from here.
const FILES: &[(&str, &str)] = &[
    (SYSTEM, include_str!("../prompts/v1/system_prompt.txt")),
    (RAG, include_str!("../prompts/v1/rag.txt")),
    (CLASSIFY, include_str!("../prompts/v1/classify.txt")),
    (SUMMARY, include_str!("../prompts/v1/summary.txt")),
];

/// Which prompts are used.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The folder with a folder a version. Where the usual one is absent, version `v1` comes
    /// with the program.
    #[garde(skip)]
    pub path: PathBuf,
    /// The version in use, such as `v1`.
    #[garde(length(min = 1, max = 64))]
    pub version: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { path: "prompts".into(), version: EMBEDDED.into() }
    }
}

/// The prompts of one version.
#[derive(Debug)]
pub struct Prompts {
    version: Arc<str>,
    digest: u64,
    system: Arc<str>,
    templates: Environment<'static>,
}

impl Prompts {
    /// Reads and tries the prompts of `version` under `dir`. Where there is no such
    /// folder at all, the carried version. Blocks while it reads.
    pub fn load(dir: &Path, version: &str) -> Result<Self, String> {
        let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if version.is_empty() || version.starts_with('.') || !version.chars().all(sane) {
            return Err(format!("`{version}` is no name of a prompt version, such as `v1`"));
        }
        let folder = dir.join(version);
        if !folder.is_dir() {
            if version == EMBEDDED && !dir.is_dir() {
                return Self::embedded();
            }
            let known = versions(dir).join(", ");
            return Err(format!(
                "there is no prompt version `{version}` in `{}`; known: {known}",
                dir.display()
            ));
        }
        Self::compile(version, |name| read(&folder.join(name)))
    }

    /// The version that the program carries.
    pub fn embedded() -> Result<Self, String> {
        Self::compile(EMBEDDED, |_| Ok(None))
    }

    /// The version's name.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// A digest of the files, to see that they changed.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The standing instructions; empty where the version has none.
    pub fn system(&self) -> &Arc<str> {
        &self.system
    }

    /// The question together with what was found for it.
    pub fn rag(&self, question: &str, passages: &[Passage]) -> Result<String, String> {
        let told =
            |(at, p): (usize, &Passage)| format!("[{}] {} ({})\n{}", at + 1, p.heading, p.document, p.text);
        let context = passages.iter().enumerate().map(told).collect::<Vec<_>>().join("\n\n");
        let seen = |(at, p): (usize, &Passage)| {
            let (document, heading, text) = (&*p.document, &*p.heading, &*p.text);
            context! { number => at + 1, document, heading, text }
        };
        let passages: Vec<minijinja::Value> = passages.iter().enumerate().map(seen).collect();
        self.fill(RAG, context! { context, question, passages })
    }

    /// Asks a model which of `labels` fits `text`.
    pub fn classify(&self, labels: &[&str], text: &str) -> Result<String, String> {
        self.fill(
            CLASSIFY,
            context! { labels => labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>(), text },
        )
    }

    /// Asks a model to sum up turns of a conversation, a question and its answer each, and what was summed up before.
    pub fn summary(&self, before: Option<&str>, turns: &[(&str, &str)]) -> Result<String, String> {
        let turns = turns.iter().map(|&(question, answer)| context! { question, answer });
        let turns: Vec<minijinja::Value> = turns.collect();
        self.fill(SUMMARY, context! { summary => before, turns })
    }

    fn compile(version: &str, read: impl Fn(&str) -> Result<Option<String>, String>) -> Result<Self, String> {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_fuel(Some(FUEL));
        let mut digest = DefaultHasher::new();
        for (name, carried) in FILES {
            let source = read(name)?.unwrap_or_else(|| (*carried).to_owned());
            (name, &source).hash(&mut digest);
            templates.add_template_owned(*name, source).map_err(|error| said(&error))?;
        }
        let mut prompts =
            Self { version: version.into(), digest: digest.finish(), system: Arc::from(""), templates };
        prompts.system = prompts.fill(SYSTEM, context! {})?.trim().into();
        // A variable that does not exist is told at start, not with the first question.
        let trial =
            Passage { document: "a".into(), heading: "b".into(), text: "c".into(), start: 0, score: 1.0 };
        prompts.rag("trial", &[trial])?;
        prompts.classify(&["a", "b"], "trial")?;
        prompts.summary(Some("a"), &[("b", "c")])?;
        Ok(prompts)
    }

    fn fill(&self, name: &str, values: minijinja::Value) -> Result<String, String> {
        self.templates
            .get_template(name)
            .and_then(|template| template.render(values))
            .map_err(|error| said(&error))
    }
}

fn said(error: &minijinja::Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(" line {line}"));
    format!("prompt `{}`{line}: {error}", error.name().unwrap_or("?"))
}

fn read(path: &Path) -> Result<Option<String>, String> {
    let fail = |error| format!("cannot read prompt `{}`: {error}", path.display());
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error)),
        Ok(meta) if meta.len() > LARGEST => {
            Err(format!("prompt `{}` is larger than {LARGEST} bytes", path.display()))
        }
        Ok(_) => fs::read_to_string(path).map(Some).map_err(fail),
    }
}

fn versions(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.truncate(20);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(text: &str) -> Passage {
        Passage { document: "a.md".into(), heading: "Fruit".into(), text: text.into(), start: 0, score: 1.0 }
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("v2")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join("v2").join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn the_carried_prompt_holds_context_question_and_answer() {
        let text =
            Prompts::embedded().unwrap().rag("Which?", &[passage("Apples."), passage("Pears.")]).unwrap();
        assert!(text.contains(
            "Context:\n[1] Fruit (a.md)\nApples.\n\n[2] Fruit (a.md)\nPears.\n\nQuestion: Which?\nAnswer:"
        ));
    }

    #[test]
    fn what_people_and_documents_say_is_never_a_template() {
        let prompts = Prompts::embedded().unwrap();
        let hostile = "{{ 7 * 7 }}{% for x in range(9) %}<&>{% endfor %}";
        let text = prompts.rag(hostile, &[passage(hostile)]).unwrap();
        assert_eq!(text.matches(hostile).count(), 2);
        assert!(prompts.classify(&["A"], hostile).unwrap().contains(hostile));
    }

    #[test]
    fn a_version_may_replace_some_files_and_keep_the_others() {
        let dir = folder(&[(
            "rag.txt",
            "{% for p in passages %}{{ p.number }}:{{ p.text }} {% endfor %}{{ question }}",
        )]);
        let prompts = Prompts::load(dir.path(), "v2").unwrap();
        assert_eq!(prompts.rag("Q", &[passage("x")]).unwrap(), "1:x Q");
        assert_eq!((&**prompts.version(), prompts.system().is_empty()), ("v2", false));
    }

    #[test]
    fn mistakes_are_found_at_start_and_named() {
        for bad in ["{{ contxt }}", "{{ question", "{% for i in range(9999999) %}x{% endfor %}"] {
            let dir = folder(&[("rag.txt", bad)]);
            let error = Prompts::load(dir.path(), "v2").unwrap_err();
            assert!(error.contains("rag.txt"), "{error}");
        }
        let dir = folder(&[]);
        assert!(Prompts::load(dir.path(), "v9").unwrap_err().contains("known: v2"));
        assert!(Prompts::load(dir.path(), "../v2").is_err());
        assert!(Prompts::load(Path::new("/nowhere"), "v1").is_ok());
        assert!(Prompts::load(Path::new("/nowhere"), "v2").is_err());
    }
}
