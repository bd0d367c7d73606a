//! One file from the hub into the cache: taken up where it broke off, and held to its size and sum.

use crate::cache::{Repository, failed};
use crate::error::HubError;
use crate::fetch::Watch;
use crate::http::{Described, Failure, Web, text};
use crate::place::HubPath;
use crate::settings::Settings;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes that are taken from the network at a time.
const CHUNK: usize = 1 << 18;
/// Longest wait between two tries, unless the server asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How far the files of a place are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that is under way, by its name in the repository.
    pub file: &'a str,
    /// Bytes that are there, of all files.
    pub done: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// A file that is to be fetched.
pub(crate) struct Transfer<'a> {
    pub(crate) web: &'a Web<'a>,
    pub(crate) settings: &'a Settings,
    pub(crate) place: &'a HubPath,
    pub(crate) repository: &'a Repository,
    pub(crate) commit: &'a str,
    pub(crate) file: &'a str,
    pub(crate) described: Described,
    /// Bytes of the files before it, and of all.
    pub(crate) before: u64,
    pub(crate) total: u64,
}

impl Transfer<'_> {
    /// Fetches the contents unless they are there, and puts them into the commit's folder.
    pub(crate) fn run(&mut self, watch: &mut dyn Watch) -> Result<(), HubError> {
        let blob = self.repository.blob(&self.described.etag);
        let lock = self.repository.lock(&self.described.etag)?;
        let there = fs::metadata(&blob).is_ok_and(|found| found.len() == self.described.size);
        if !there {
            self.fetch(&blob, watch)?;
        }
        let linked = self
            .repository
            .link(self.commit, self.file, &self.described.etag);
        drop(lock);
        self.report(self.described.size, watch);
        linked
    }

    fn report(&self, here: u64, watch: &mut dyn Watch) {
        watch.progress(Progress {
            file: self.file,
            done: self.before + here,
            total: self.total,
        });
    }

    fn fetch(&mut self, blob: &Path, watch: &mut dyn Watch) -> Result<(), HubError> {
        // The name that Python gives what has not all arrived.
        let mut partial = blob.as_os_str().to_owned();
        partial.push(".incomplete");
        let partial = PathBuf::from(partial);
        let wrong = |source| failed(&partial, source);
        if let Some(folder) = blob.parent() {
            fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true);
        let mut file = options.open(&partial).map_err(wrong)?;
        let (mut failures, mut damaged) = (0, false);
        loop {
            let before = file.metadata().map_err(wrong)?.len();
            if before == self.described.size {
                match problem(&mut file, &self.described).map_err(wrong)? {
                    None => break,
                    Some(problem) if damaged => {
                        fs::remove_file(&partial).map_err(wrong)?;
                        return Err(HubError::Damaged {
                            file: self.file.to_owned(),
                            problem,
                        });
                    }
                    // The part that an earlier run left may be to blame.
                    Some(problem) => {
                        damaged = true;
                        watch.trouble(self.file, &problem);
                        file.set_len(0).map_err(wrong)?;
                        continue;
                    }
                }
            }
            let (reason, retry_after) = match self.continued(&mut file, &partial, watch) {
                Ok(()) => continue,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing {
                    reason,
                    retry_after,
                }) => (reason, retry_after),
            };
            if file.metadata().map_err(wrong)?.len() > before {
                failures = 0;
            }
            failures += 1;
            if failures >= self.settings.patience {
                return Err(HubError::BrokenOff {
                    file: self.file.to_owned(),
                    reason,
                });
            }
            watch.trouble(self.file, &reason);
            let wait = self
                .settings
                .first_wait
                .saturating_mul(1 << (failures - 1).min(16));
            std::thread::sleep(wait.min(LONGEST_WAIT).max(retry_after.unwrap_or_default()));
            self.describe_again()?;
        }
        file.sync_all().map_err(wrong)?;
        drop(file);
        fs::rename(&partial, blob).map_err(wrong)
    }

    /// Where the contents are is said for a while only.
    fn describe_again(&mut self) -> Result<(), HubError> {
        match self.web.describe(self.place, self.commit, self.file) {
            Ok(now) if now.etag == self.described.etag => self.described.url = now.url,
            Err(Failure::Final(error)) => return Err(error),
            // The next try says what is wrong.
            _ => {}
        }
        Ok(())
    }

    /// Takes what comes from the end of `file` on; all of it has come if this goes well.
    fn continued(
        &self,
        file: &mut File,
        path: &Path,
        watch: &mut dyn Watch,
    ) -> Result<(), Failure> {
        let wrong = |source| Failure::Final(failed(path, source));
        let size = self.described.size;
        let mut here = file.metadata().map_err(wrong)?.len();
        if here > size {
            file.set_len(0).map_err(wrong)?;
            here = 0;
        }
        let mut answer = self.web.get(&self.described.url, here)?;
        match answer.status().as_u16() {
            206 if text(answer.headers(), "content-range").and_then(|range| {
                range
                    .strip_prefix("bytes ")?
                    .split('-')
                    .next()?
                    .parse()
                    .ok()
            }) == Some(here) => {}
            // From the beginning, whatever was asked for.
            200 => {
                file.set_len(0).map_err(wrong)?;
                here = 0;
            }
            206 | 416 => {
                file.set_len(0).map_err(wrong)?;
                return Err(Failure::Passing {
                    reason: "the server sends another part than was asked for".into(),
                    retry_after: None,
                });
            }
            // An address that has run out; another is asked for.
            400 | 401 | 403 if self.is_elsewhere() => {
                return Err(Failure::Passing {
                    reason: format!("status {}", answer.status()),
                    retry_after: None,
                });
            }
            _ => {
                return Err(self
                    .web
                    .refusal(self.place, &self.described.url, &mut answer));
            }
        }
        let mut body = answer.body_mut().as_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            self.report(here.min(size), watch);
            let count = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Failure::Passing {
                        reason: error.to_string(),
                        retry_after: None,
                    });
                }
            };
            file.write_all(&chunk[..count]).map_err(wrong)?;
            here += count as u64;
            if here > size {
                break;
            }
        }
        let passing = |reason: String| Failure::Passing {
            reason,
            retry_after: None,
        };
        match here.cmp(&size) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(passing(format!("{here} of {size} bytes came"))),
            std::cmp::Ordering::Greater => {
                file.set_len(0).map_err(wrong)?;
                Err(passing(format!("more than {size} bytes came")))
            }
        }
    }

    fn is_elsewhere(&self) -> bool {
        !self.described.url.starts_with(&self.settings.endpoint)
    }
}

/// What is wrong with contents of the right size. Only large files are named by a sum that can be held
/// against them.
fn problem(file: &mut File, described: &Described) -> io::Result<Option<String>> {
    let is_sha256 = |etag: &str| etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_sha256(&described.etag) {
        return Ok(None);
    }
    file.rewind()?;
    let mut sum = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            count => sum.update(&chunk[..count]),
        }
    }
    let found: String = sum
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let same = found.eq_ignore_ascii_case(&described.etag);
    Ok((!same).then(|| format!("its SHA-256 is {found}, the hub says {}", described.etag)))
}
