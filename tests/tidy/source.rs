//! The files of this repository.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::scan::{self, Function, find_words, line_of};

/// Folders that hold nothing of ours, or what a tool writes.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// Rust that is data: what the macro writes, and what the compiler must refuse.
const DATA: [&str; 2] = ["krpc-macros/tests/golden/", "krpc-macros/tests/ui/"];

/// One Rust file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// [`scan::mask`] of the text.
    pub(crate) code: String,
    pub(crate) functions: Vec<Function>,
    /// Lines of modules for tests.
    tests: Vec<Range<usize>>,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = scan::mask(&text);
        let functions = scan::functions(&code);
        let tests = test_modules(&code);
        Self { path, text, code, functions, tests }
    }

    /// Whether the line is compiled for tests only.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        let mut folders = self.path.split('/');
        folders.any(|part| matches!(part, "tests" | "tests.rs"))
            || self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// The lines where a word of code stands.
    pub(crate) fn lines_with(&self, word: &str) -> Vec<usize> {
        find_words(&self.code, word).into_iter().map(|at| line_of(&self.code, at)).collect()
    }

    /// The innermost function around a line.
    pub(crate) fn function_at(&self, line: usize) -> Option<&Function> {
        let around = self.functions.iter().filter(|it| (it.first..=it.last).contains(&line));
        around.min_by_key(|function| function.last - function.first)
    }

    /// Whether it has a function of this name, with or without a body.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        !find_words(&self.code, &format!("fn {name}")).is_empty()
    }

    /// Whether it has a test of this name.
    pub(crate) fn has_test(&self, name: &str) -> bool {
        let lines: Vec<_> = self.code.lines().map(str::trim).collect();
        let is_marked = |line: usize| {
            let above = lines[..line - 1].iter().rev();
            let mut above = above.take_while(|text| text.is_empty() || text.starts_with("#["));
            above.any(|text| text.starts_with("#[test]") || text.starts_with("#[tokio::test"))
        };
        self.lines_with(&format!("fn {name}")).into_iter().any(is_marked)
    }
}

/// The lines of modules under `#[cfg(test)]`.
fn test_modules(code: &str) -> Vec<Range<usize>> {
    let marks = find_words(code, "#[cfg(test)]");
    let modules = marks.into_iter().filter_map(|at| {
        let body = scan::body(code, at + "#[cfg(test)]".len())?;
        Some(line_of(code, at)..line_of(code, body.end - 1) + 1)
    });
    modules.collect()
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file that people write, by path.
pub(crate) fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let rust = files(&["rs"]).into_iter();
        let written = rust.filter(|(path, _)| !DATA.iter().any(|data| path.starts_with(data)));
        written.map(|(path, text)| Source::new(path, text)).collect()
    })
}

/// A file that must be there.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file with one of these endings, by path: path and text.
pub(crate) fn files(endings: &[&str]) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    let ends = |path: &PathBuf| {
        path.extension().is_some_and(|end| endings.iter().any(|ending| end == *ending))
    };
    let mut found: Vec<_> = paths
        .into_iter()
        .filter(ends)
        .map(|path| {
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            (relative, fs::read_to_string(path).unwrap())
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "there are files of {endings:?}");
    found
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if name.starts_with('.') || SKIPPED.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_from_other_code() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("src/x.rs", text);
        let tests: Vec<_> = (1..=7).filter(|line| source.is_test(*line)).collect();
        assert_eq!(tests, [2, 3, 4, 5, 6]);
        assert!(source.has_test("b") && !source.has_test("a") && !source.has_test("c"));
        assert!(Source::new("krpc-core/src/x/tests.rs", "").is_test(1));
        assert!(Source::new("tests/sim/x.rs", "").is_test(1));
        // A test module in a file of its own takes nothing of this one.
        let source = Source::new("src/x.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n");
        assert!(!source.is_test(3));
    }

    #[test]
    fn a_function_without_body_is_one_too() {
        let source = Source::new("src/x.rs", "trait T {\n    fn add(&self);\n}\n");
        assert!(source.has_function("add") && !source.has_function("ad"));
    }
}
