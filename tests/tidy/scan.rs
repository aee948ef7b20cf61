//! Rust's text without what is no code, and where its functions and test modules are.
//!
//! Not a parser: it knows strings, characters, comments and brackets, which is enough for
//! formatted code.

use std::ops::Range;

/// The same text, byte by byte, with a blank for each byte of comments, and of what stands inside
/// strings and characters. Line ends stay.
pub(crate) fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match token(bytes, at) {
            Some(Token { inside, end }) => {
                for index in inside {
                    if bytes[index] != b'\n' {
                        code[index] = b' ';
                    }
                }
                end
            }
            None => at + 1,
        };
        at = end;
    }
    // Whole characters were replaced, or none of their bytes.
    String::from_utf8(code).unwrap()
}

struct Token {
    /// What is blanked.
    inside: Range<usize>,
    end: usize,
}

/// The comment, string or character that begins here, if one does.
fn token(bytes: &[u8], at: usize) -> Option<Token> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        let end = at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        return Some(Token { inside: at..end, end });
    }
    if rest.starts_with(b"/*") {
        let end = at + block_comment(rest);
        return Some(Token { inside: at..end, end });
    }
    // Within a name, as in `expr"`, a letter begins nothing.
    let in_word = at > 0 && is_word(bytes[at - 1]);
    let prefix = match rest {
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !in_word => 2,
        [b'r', b'"' | b'#', ..] | [b'b' | b'c', b'"', ..] | [b'b', b'\'', ..] if !in_word => 1,
        [b'"' | b'\'', ..] => 0,
        _ => return None,
    };
    let raw = rest[..prefix].contains(&b'r');
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = at + prefix + if raw { hashes } else { 0 };
    match bytes.get(open)? {
        b'"' if raw => {
            let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
            let body = &bytes[open + 1..];
            let found = body.windows(close.len()).position(|window| window == close);
            let length = found.unwrap_or(body.len());
            let end = (open + 1 + length + close.len()).min(bytes.len());
            Some(Token { inside: open + 1..open + 1 + length, end })
        }
        b'"' => {
            let close = open + 1 + escaped(&bytes[open + 1..], b'"');
            Some(Token { inside: open + 1..close, end: (close + 1).min(bytes.len()) })
        }
        b'\'' if is_character(&bytes[open..]) => {
            let close = open + 1 + escaped(&bytes[open + 1..], b'\'');
            Some(Token { inside: open + 1..close, end: (close + 1).min(bytes.len()) })
        }
        // A lifetime, or a raw name.
        _ => None,
    }
}

/// Bytes of a comment in stars, with those inside it.
fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Where the unescaped quote is.
fn escaped(bytes: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// Whether a quote begins a character and no lifetime: an escape, or one character and a quote.
fn is_character(bytes: &[u8]) -> bool {
    let text = &bytes[1..bytes.len().min(6)];
    if text.first() == Some(&b'\\') {
        return true;
    }
    let length = match text.first() {
        Some(0..0x80) => 1,
        Some(0x80..0xe0) => 2,
        Some(0xe0..0xf0) => 3,
        _ => 4,
    };
    text.get(length) == Some(&b'\'')
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Where `word` stands as a word of its own. A needle may begin or end with something that is no
/// letter: then that end is free.
pub(crate) fn find_words(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let (first, last) = (word.as_bytes()[0], word.as_bytes()[word.len() - 1]);
    let found = text.match_indices(word).map(|(at, _)| at);
    let whole = |at: &usize| {
        let before = at.checked_sub(1).is_some_and(|at| is_word(bytes[at]));
        let after = bytes.get(at + word.len()).is_some_and(|byte| is_word(*byte));
        !(before && is_word(first) || after && is_word(last))
    };
    found.filter(whole).collect()
}

/// The line of a byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// A function with a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line of `fn`.
    pub(crate) first: usize,
    /// The line of the closing brace.
    pub(crate) last: usize,
}

/// The functions of masked code, nested ones too.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    for at in find_words(code, "fn") {
        let rest = code[at + 2..].trim_start();
        let name: String = rest.bytes().take_while(|b| is_word(*b)).map(char::from).collect();
        if name.is_empty() {
            continue;
        }
        if let Some(body) = body(code, at) {
            let (first, last) = (line_of(code, at), line_of(code, body.end - 1));
            functions.push(Function { name, first, last });
        }
    }
    functions
}

/// From the first brace outside parentheses to the one that closes it; none before a semicolon.
pub(crate) fn body(code: &str, from: usize) -> Option<Range<usize>> {
    let bytes = code.as_bytes();
    let mut depth = 0_usize;
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(at..closing(bytes, at)),
            _ => {}
        }
        at += 1;
    }
    None
}

/// One past the brace that closes the one at `open`.
fn closing(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("a \" b") g"#, r#"f("      ") g"#),
            (r##"f(r#"a " b"#, 'x')"##, r##"f(r#"     "#, ' ')"##),
            (r#"b"a" br"\" 'c' '\'' b'"' "#, r#"b" " br" " ' ' '  ' b' ' "#),
            ("fn f<'a>(x: &'a str, y: 'b')", "fn f<'a>(x: &'a str, y: ' ')"),
            ("'é' \"é\" r#type", "'  ' \"  \" r#type"),
            ("//! é\nx", "      \nx"),
        ] {
            assert_eq!(mask(text), code, "{text}");
            assert_eq!(mask(text).len(), text.len());
        }
        assert_eq!(mask("\"open"), "\"    ");
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(find_words("unsafe_code un unsafe {", "unsafe"), [15]);
        assert_eq!(find_words("x.unwrap().y", ".unwrap()"), [1]);
        assert_eq!(find_words("todo!() my_todo!()", "todo!"), [0]);
    }

    #[test]
    fn functions_have_their_lines() {
        let code = "trait T {\nfn a(&self, x: [u8; 4]);\nfn b() -> u8 {\n7\n}\n}\n\
                    fn c(f: fn(u8) -> u8)\nwhere\n    u8: Copy,\n{\n    fn d() {}\n}\n";
        let found = functions(code);
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.first, f.last)).collect();
        assert_eq!(found, [("b", 3, 5), ("c", 7, 12), ("d", 11, 11)]);
    }
}
