//! Lines of a file that several processes append to, each under its lock. Any of them may be killed at it.
//!
//! The system writes a line that lies across two pages in two steps, and a process may be killed between them. What it leaves is no
//! line: whoever was to write it did not come back from there.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

/// The whole lines, each with its end.
pub(crate) fn read(file: &mut File) -> io::Result<String> {
    let mut text = bytes(file)?;
    // What is cut off may be half a character.
    text.truncate(end_of_lines(&text));
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Takes off what is no line, and tells how long the file is then.
pub(crate) fn mend(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if length == 0 || ends_a_line(file, length)? {
        return Ok(length);
    }
    let length = end_of_lines(&bytes(file)?) as u64;
    file.set_len(length)?;
    Ok(length)
}

/// Adds a line, in one write, to a file that was mended.
pub(crate) fn append(file: &mut File, line: &str) -> io::Result<()> {
    file.write_all(format!("{line}\n").as_bytes())
}

fn bytes(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn ends_a_line(file: &mut File, length: u64) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn end_of_lines(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_of_its_line_is_no_line_and_does_not_begin_the_next() {
        for before in ["", "one\n", "one\ntwo\n"] {
            for left in [&b""[..], b"t", b"three, up to its e", b"trois, \xc3"] {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&[before.as_bytes(), left].concat()).unwrap();
                assert_eq!(read(&mut file).unwrap(), before);
                assert_eq!(mend(&mut file).unwrap(), before.len() as u64);
                file.seek(SeekFrom::End(0)).unwrap();
                append(&mut file, "next").unwrap();
                assert_eq!(read(&mut file).unwrap(), format!("{before}next\n"));
            }
        }
    }
}
