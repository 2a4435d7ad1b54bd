//! Reading the knowledge folder: Markdown and plain text, within bounds.
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::chunk::Document;

/// The largest document, in bytes.
pub const LARGEST_FILE: u64 = 4 << 20;
/// The most documents.
pub const MOST_FILES: usize = 10_000;
/// The most text in all, in bytes: the index is held in memory.
pub const MOST_BYTES: u64 = 64 << 20;
/// The deepest folder: no link leads round for ever.
const DEEPEST: usize = 16;

/// Why the documents cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refuses.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A document is not text.
    #[error("`{0}` is not UTF-8 text")]
    NotText(PathBuf),
    /// There is more than fits.
    #[error("`{path}` holds too much: {what}")]
    TooMuch {
        /// The file or folder.
        path: PathBuf,
        /// Which bound is passed.
        what: String,
    },
}

/// The documents under `root`, by name; none where there is no such folder.
/// Files other than `*.md`, `*.markdown` and `*.txt`, and hidden ones, are passed over.
pub fn folder(root: &Path) -> Result<Option<Vec<Document>>, Error> {
    match fs::metadata(root) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path: root.into(), source }),
    }
    let mut files = Vec::new();
    collect(root, 0, &mut files)?;
    files.sort();
    let mut total = 0;
    let mut documents = Vec::with_capacity(files.len());
    for path in files {
        let text = read(&path)?;
        total += text.len() as u64;
        if total > MOST_BYTES {
            return Err(too_much(root, format!("more than {MOST_BYTES} bytes of text")));
        }
        let name = path.strip_prefix(root).unwrap_or(&path);
        let name = name.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        documents.push(Document { name, text });
    }
    Ok(Some(documents))
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let fail = |source| Error::Read { path: folder.into(), source };
    if depth > DEEPEST {
        return Err(too_much(folder, format!("folders more than {DEEPEST} deep")));
    }
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        // Hidden names are editors' and mounted volumes' own business (Kubernetes' `..data`).
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            collect(&path, depth + 1, files)?;
        } else if is_document(&path) {
            files.push(path);
            if files.len() > MOST_FILES {
                return Err(too_much(folder, format!("more than {MOST_FILES} documents")));
            }
        }
    }
    Ok(())
}

fn is_document(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ["md", "markdown", "txt"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

fn read(path: &Path) -> Result<String, Error> {
    let fail = |source| Error::Read { path: path.into(), source };
    let size = fs::metadata(path).map_err(fail)?.len();
    if size > LARGEST_FILE {
        return Err(too_much(path, format!("{size} bytes, at most {LARGEST_FILE}")));
    }
    let bytes = fs::read(path).map_err(fail)?;
    String::from_utf8(bytes).map_err(|_| Error::NotText(path.into()))
}

fn too_much(path: &Path, what: String) -> Error {
    Error::TooMuch { path: path.into(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_every_folder_are_read_in_order_and_others_passed_over() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("b/c")).unwrap();
        for (name, text) in [("b/c/x.MD", "x"), ("a.txt", "a"), ("b/.hidden.md", "h"), ("b/y.png", "y")] {
            fs::write(root.path().join(name), text).unwrap();
        }
        let names: Vec<_> = folder(root.path()).unwrap().unwrap().into_iter().map(|d| d.name).collect();
        assert_eq!(names, ["a.txt", "b/c/x.MD"]);
    }

    #[test]
    fn a_document_too_large_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("big.md"), vec![b'a'; LARGEST_FILE as usize + 1]).unwrap();
        assert!(folder(root.path()).unwrap_err().to_string().contains("big.md"));
    }

    #[test]
    fn no_folder_is_no_mistake() {
        assert_eq!(folder(Path::new("/nowhere/at/all")).unwrap(), None);
    }
}
