//! The documents that answers rest on.
//!
//! Documents become passages ([`chunk`]), passages an index ([`index`]). A
//! [`Knowledge`] never changes; when the folder does, another one takes its
//! place in [`SharedKnowledge`], and a call keeps the one it began with.
pub mod chunk;
pub mod extract;
#[cfg(test)]
mod golden;
pub mod ground;
pub mod handbook;
pub mod index;
pub mod load;
mod marks;
pub mod sentence;
mod settings;
pub mod words;

use std::{fmt::Write, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

pub use self::settings::Settings;
use self::{
    chunk::{Chunk, Document},
    extract::Extract,
    index::Index,
    marks::Marks,
};
use crate::chat::{Citation, Passage};

/// A heading says what a passage is about: its words count so many times.
const HEADING_WEIGHT: f32 = 2.0;
/// More terms than this make no question clearer.
const MOST_TERMS: usize = 64;

/// The indexed documents.
#[derive(Debug)]
pub struct Knowledge {
    version: Arc<str>,
    documents: usize,
    passages: Vec<Passage>,
    index: Index,
    marks: Marks,
}

impl Knowledge {
    /// Indexes the documents under `path`, cut into passages of about `chunk_chars`
    /// characters. Where there is no such folder, the handbook that the program carries.
    /// Blocks while it reads.
    pub fn load(path: &Path, chunk_chars: usize) -> Result<Self, load::Error> {
        match load::folder(path)? {
            Some(documents) => Ok(Self::of(&documents, chunk_chars)),
            None => Ok(Self::handbook(chunk_chars)),
        }
    }

    /// The product's own handbook.
    pub fn handbook(chunk_chars: usize) -> Self {
        Self::of(&handbook::documents(), chunk_chars)
    }

    /// Indexes documents that have been read.
    pub fn of(documents: &[Document], chunk_chars: usize) -> Self {
        let mut hash = Sha256::new();
        hash.update((chunk_chars as u64).to_le_bytes());
        let mut passages = Vec::new();
        let mut weighed = Vec::new();
        let mut marks = Marks::default();
        for document in documents {
            for part in [&document.name, &document.text] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            let name: Arc<str> = document.name.as_str().into();
            marks.read(&document.name);
            marks.read(&document.text);
            let title = chunk::title(document);
            for Chunk { heading, range } in chunk::chunks(document, chunk_chars) {
                let text: Arc<str> = document.text[range.clone()].into();
                let heading: Arc<str> = if heading.is_empty() { title.into() } else { heading.into() };
                let headings = words::terms(&heading).into_iter().map(|term| (term, HEADING_WEIGHT));
                weighed
                    .push(headings.chain(words::terms(&text).into_iter().map(|term| (term, 1.0))).collect());
                passages.push(Passage {
                    document: name.clone(),
                    heading,
                    text,
                    start: range.start,
                    score: 0.0,
                });
            }
        }
        let version = hash.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self {
            version: version.into(),
            documents: documents.len(),
            index: Index::build(weighed.into_iter()),
            passages,
            marks,
        }
    }

    /// The version of the documents: equal contents have equal versions.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The numbers that stand in the documents behind a placeholder's label, such as 1 for `[EMAIL_1]`.
    pub fn marks(&self, label: &str) -> &[u32] {
        self.marks.of(label)
    }

    /// The number of documents.
    pub fn document_count(&self) -> usize {
        self.documents
    }

    /// The number of passages.
    pub fn passage_count(&self) -> usize {
        self.passages.len()
    }

    /// The `count` passages that speak most of what the question asks, best first.
    pub fn search(&self, question: &str, count: usize) -> Vec<Passage> {
        let found = self.index.search(&question_terms(question), count);
        found.into_iter().map(|(at, score)| Passage { score, ..self.passages[at].clone() }).collect()
    }

    /// The sentences of `passages` that answer the question, if any do.
    pub fn extract(&self, question: &str, passages: &[Passage]) -> Extract {
        extract::extract(&self.index, question, &question_terms(question), passages)
    }

    /// Which claims of `answer` the passages support: the best span for each, and the share of them.
    pub fn ground(&self, answer: &str, passages: &[Passage]) -> (Vec<Citation>, f64) {
        ground::ground(answer, passages, |term| self.index.idf(term))
    }
}

/// The question's terms, each once.
fn question_terms(question: &str) -> Vec<String> {
    let mut terms: Vec<String> = Vec::new();
    for term in words::terms(question) {
        if terms.len() < MOST_TERMS && !terms.contains(&term) {
            terms.push(term);
        }
    }
    terms
}

/// The documents of a running gateway, which may be replaced.
#[derive(Debug)]
pub struct SharedKnowledge(ArcSwap<Knowledge>);

impl SharedKnowledge {
    /// Begins with `knowledge`.
    pub fn new(knowledge: Knowledge) -> Self {
        Self(ArcSwap::from_pointee(knowledge))
    }

    /// The documents of this moment. A call asks once and keeps what it gets.
    pub fn current(&self) -> Arc<Knowledge> {
        self.0.load_full()
    }

    /// Puts others in their place.
    pub fn replace(&self, knowledge: Knowledge) {
        self.0.store(Arc::new(knowledge));
    }

    /// Reads the folder again; true where the documents have changed. A folder that
    /// cannot be read changes nothing. Blocks while it reads.
    pub fn reload(&self, path: &Path, chunk_chars: usize) -> Result<bool, load::Error> {
        let read = Knowledge::load(path, chunk_chars)?;
        let changed = read.version != self.0.load().version;
        if changed {
            self.replace(read);
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(name: &str, text: &str) -> Document {
        Document { name: name.into(), text: text.into() }
    }

    #[test]
    fn equal_documents_have_equal_versions_and_others_do_not() {
        let one = Knowledge::of(&[document("a.md", "one")], 600);
        assert_eq!(one.version(), Knowledge::of(&[document("a.md", "one")], 600).version());
        for (other, chars) in
            [(document("a.md", "two"), 600), (document("b.md", "one"), 600), (document("a.md", "one"), 700)]
        {
            assert_ne!(one.version(), Knowledge::of(&[other], chars).version());
        }
    }

    #[test]
    fn a_passage_says_where_it_stands() {
        let text = "# Fruit\n\nApples.\n\n## Pears\n\nPears are green.\n";
        let knowledge = Knowledge::of(&[document("a.md", text)], 600);
        let found = knowledge.search("green pear", 3);
        assert_eq!(&*found[0].heading, "Fruit › Pears");
        assert!(text[found[0].start..].starts_with(&*found[0].text));
        assert_eq!(knowledge.passage_count(), 2);
    }

    #[test]
    fn changed_documents_are_seen_after_a_reload_and_a_broken_folder_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.md"), "Apples are red.").unwrap();
        let shared = SharedKnowledge::new(Knowledge::load(folder.path(), 600).unwrap());
        let before = shared.current();
        assert!(!shared.reload(folder.path(), 600).unwrap());
        std::fs::write(folder.path().join("a.md"), "Apples are green.").unwrap();
        assert!(shared.reload(folder.path(), 600).unwrap());
        assert_eq!(shared.current().search("green", 3).len(), 1);
        assert_eq!(before.search("green", 3).len(), 0);
        std::fs::write(folder.path().join("a.md"), [0xff, 0xfe, 0x00]).unwrap();
        assert!(shared.reload(folder.path(), 600).is_err());
        assert_eq!(shared.current().search("green", 3).len(), 1);
    }

    #[test]
    fn without_a_folder_the_handbook_answers() {
        let knowledge = Knowledge::load(Path::new("/nowhere/at/all"), 600).unwrap();
        assert!(knowledge.document_count() > 5);
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_indexed_asked_and_judged(text in "(?s)[ \\n#`|.!\\-'’/a-zA-ZéÉ限😀0-9\\[\\]]{0,300}", any in ".{0,200}", chars in 1_usize..200) {
            for name in ["a.md", "a.txt"] {
                let source = format!("{text}{any}");
                let knowledge = Knowledge::of(&[document(name, &source)], chars);
                let passages = knowledge.search(&any, 3);
                for passage in &passages {
                    assert!(source[passage.start..].starts_with(&*passage.text));
                }
                let answer = knowledge.extract(&any, &passages);
                assert!((0.0..=1.0).contains(&answer.confidence));
                let (_, score) = knowledge.ground(&text, &passages);
                assert!((0.0..=1.0).contains(&score));
            }
        }
    }
}
