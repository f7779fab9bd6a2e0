//! The files on disk: the one that was named, and those it includes. The only part of an import that touches the outside.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::notes::Problem;
use super::{Source, expand, glob, ini};

/// A file larger than this is somebody's mistake; in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// No configuration has more files.
const MOST: usize = 10_000;

/// Reads a file and what it includes, in the order supervisord reads them. `-` is standard input.
///
/// # Errors
/// A file that cannot be read, or whose `[include]` cannot be understood.
pub(crate) fn gather(file: &Path, host: &str) -> Result<Vec<Source>, Problem> {
    let main = if file == Path::new("-") { standard_input()? } else { read(file, |_any| true)? };
    let parsed = ini::parse(&main)?;
    let Some(setting) = parsed.section("include").and_then(|section| section.get("files")) else {
        return Ok(vec![main]);
    };
    let mut names = expand::Names::default();
    names.values.extend([("here", main.here.clone()), ("host_node_name", host.to_owned())]);
    let patterns = expand::expand(&setting.value, &names).map_err(|why| Problem::at(&setting.place, why))?;
    if expand::is_open(&patterns) {
        let what =
            format_args!("`files` depends on the environment; write the path itself, and import again");
        return Err(Problem::at(&setting.place, what));
    }
    let base = PathBuf::from(&main.here);
    let mut sources = vec![main];
    let too_many = || Problem::at(&setting.place, format_args!("`files` stands for more than {MOST} files"));
    for pattern in patterns.split_whitespace() {
        for path in matches(&base.join(pattern)).ok_or_else(too_many)? {
            if sources.len() > MOST {
                return Err(too_many());
            }
            sources.push(read(&path, std::fs::FileType::is_file)?);
        }
    }
    Ok(sources)
}

/// Reads a file of a fitting kind: whoever names a pipe wants it read, a pattern that finds one would wait for its writer.
fn read(path: &Path, fits: fn(&std::fs::FileType) -> bool) -> Result<Source, Problem> {
    let shown = path.display();
    let problem = |error: io::Error| Problem(format!("`{shown}` cannot be read: {error}"));
    if !fits(&std::fs::metadata(path).map_err(problem)?.file_type()) {
        return Err(problem(io::Error::other("it is no plain file")));
    }
    let file = std::fs::File::open(path).map_err(problem)?;
    let text = text_of(file).map_err(problem)?;
    let absolute = std::path::absolute(path).map_err(problem)?;
    let here = absolute.parent().unwrap_or(Path::new("/")).display().to_string();
    Ok(Source { name: shown.to_string(), here, text })
}

fn standard_input() -> Result<Source, Problem> {
    let problem = |error: io::Error| Problem(format!("standard input cannot be read: {error}"));
    let text = text_of(io::stdin().lock()).map_err(problem)?;
    let here = std::env::current_dir().map_err(problem)?.display().to_string();
    Ok(Source { name: "-".to_owned(), here, text })
}

fn text_of(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it has more than {LARGEST} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// Every file a path with patterns stands for, sorted; `None` when that is more than anybody means, on the way there, too.
fn matches(pattern: &Path) -> Option<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = match part {
            Component::Normal(name) => name.to_string_lossy().into_owned(),
            other => {
                found.iter_mut().for_each(|path| path.push(other));
                continue;
            }
        };
        if !glob::is_pattern(&name) {
            found.iter_mut().for_each(|path| path.push(&name));
            continue;
        }
        found = found.iter().flat_map(|folder| entries(folder, &name)).take(MOST + 1).collect();
        if found.len() > MOST {
            return None;
        }
    }
    found.retain(|path| path.exists());
    found.sort();
    Some(found)
}

fn entries(folder: &Path, pattern: &str) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let fitting = entries.filter(move |entry| glob::fits(pattern, &entry.file_name().to_string_lossy()));
    fitting.map(|entry| entry.path())
}
