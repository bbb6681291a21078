//! Lines of a file that several processes append to, each under its lock. Any of them may be killed at it.
//!
//! The system writes a line that lies across two pages in two steps, and a process may be killed between them. What it leaves is no
//! line: whoever was to write it did not come back from there.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use serde::de::DeserializeOwned;

/// Reads lines of JSON, and remembers how far it has come: each time only what was added since.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    bytes: u64,
    lines: usize,
}

/// A file to append to, which is created if it is not there.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).open(path)
}

impl Reader {
    /// What the next lines say. Blank ones say nothing.
    ///
    /// # Errors
    /// `InvalidData`: a line says something else. Then it is told again the next time.
    pub(crate) fn read<T: DeserializeOwned>(&mut self, file: &File) -> io::Result<Vec<T>> {
        let added = bytes(file, self.bytes)?;
        let (whole, rest) = added.split_at(end_of_lines(&added));
        let (mut said, mut lines) = (Vec::new(), self.lines);
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            lines += 1;
            if !line.trim_ascii().is_empty() {
                said.push(serde_json::from_slice(line).map_err(|_| foreign(lines))?);
            }
        }
        // It will be taken off, so it must be the beginning of a line that somebody like us was killed at.
        match serde_json::from_slice::<T>(rest) {
            Err(error) if !error.is_eof() => return Err(foreign(lines + 1)),
            _ => {}
        }
        (self.bytes, self.lines) = (self.bytes + whole.len() as u64, lines);
        Ok(said)
    }

    /// Whether the file is another one than it has read, or was cut.
    pub(crate) fn is_beyond(&self, file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.len() < self.bytes)
    }
}

/// Whether one of the lines is this word.
pub(crate) fn contain(file: &File, word: &str) -> io::Result<bool> {
    let bytes = bytes(file, 0)?;
    let (whole, _) = bytes.split_at(end_of_lines(&bytes));
    Ok(whole.split(|byte| *byte == b'\n').any(|line| line == word.as_bytes()))
}

/// Takes off what is no line, and tells how long the file is then. It reads no line that is whole.
pub(crate) fn mend(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if length == 0 || ends_a_line(file, length)? {
        return Ok(length);
    }
    let length = end_of_lines(&bytes(file, 0)?) as u64;
    file.set_len(length)?;
    Ok(length)
}

/// Adds a line, in one write, to a file that was mended.
pub(crate) fn append(mut file: &File, line: &str) -> io::Result<()> {
    file.write_all(format!("{line}\n").as_bytes())
}

fn bytes(mut file: &File, from: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn ends_a_line(mut file: &File, length: u64) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn end_of_lines(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn foreign(line: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("line {line} was not written by this program: name another file"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn what_a_killed_process_left_of_its_line_is_no_line_and_does_not_begin_the_next() {
        for before in ["", "{\"n\":1}\n", "{\"n\":1}\n{\"n\":2}\n"] {
            for left in [&b""[..], b"{", b"{\"n\":3,\"up to its e", b"{\"n\":3}", b"{\"trois\":\"\xc3"] {
                let file = file(&[before.as_bytes(), left].concat());
                let (mut reader, lines) = (Reader::default(), before.lines().count());
                assert_eq!(reader.read::<Value>(&file).unwrap().len(), lines);
                assert_eq!(mend(&file).unwrap(), before.len() as u64);
                (&file).seek(SeekFrom::End(0)).unwrap();
                append(&file, "{\"n\":4}").unwrap();
                assert_eq!(reader.read::<Value>(&file).unwrap(), [json!({ "n": 4 })], "only what was added");
                assert_eq!(Reader::default().read::<Value>(&file).unwrap().len(), lines + 1);
            }
        }
    }

    #[test]
    fn blank_lines_are_skipped_and_foreign_ones_named() {
        let numbers = |bytes: &[u8]| Reader::default().read::<u8>(&file(bytes));
        assert_eq!(numbers(b"\n1\n \r\n2\n\n").unwrap(), [1, 2]);
        assert_eq!(numbers(b"1\n ").unwrap(), [1]);
        for (bytes, line) in
            [(&b"1\nDear ledger,\n"[..], 2), (b"Dear ledger,", 1), (b"1\n\n\xff\n", 3), (b"1\n\0\0\0", 2), (b"256", 1)]
        {
            let error = numbers(bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().starts_with(&format!("line {line} was not")), "{error}");
        }
    }

    #[test]
    fn a_word_is_found_only_as_a_whole_line() {
        let file = file(b"one\ntwo\nthree, up to its e");
        for (word, is_there) in [("one", true), ("two", true), ("tw", false), ("three, up to its e", false)] {
            assert_eq!(contain(&file, word).unwrap(), is_there, "{word}");
        }
    }
}
