//! From a name to a path.

use crate::cache::Repository;
use crate::error::HubError;
use crate::http::{Described, Failure, Listing, Web, agent};
use crate::place::{HubPath, Kind, is_tame};
use crate::select::{Selection, Weights, select, shards};
use crate::settings::Settings;
use crate::transfer::{Progress, Transfer};
use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use ureq::Agent;

/// The hub and the cache.
pub struct Hub {
    settings: Settings,
    agent: Agent,
    /// What was fetched already by this one: a revision does not change while a program runs.
    known: Mutex<HashMap<HubPath, Fetched>>,
}

/// Where a place of the hub lies on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// File or folder in the cache.
    pub path: PathBuf,
    /// The same place with its commit for a revision: what is fetched by this name never changes.
    pub pinned: HubPath,
}

/// Who wants to know how it goes.
pub trait Watch {
    /// So many files of so many bytes are not in the cache and will be fetched now.
    fn begins(&mut self, _place: &HubPath, _files: usize, _bytes: u64) {}

    /// Some bytes have come.
    fn progress(&mut self, _progress: Progress<'_>) {}

    /// A transfer failed, and is tried again.
    fn trouble(&mut self, _file: &str, _reason: &str) {}

    /// The hub cannot be reached; what is in the cache is taken, of the commit that is named.
    fn unreachable(&mut self, _pinned: &HubPath, _reason: &str) {}

    /// The settings of a model are in `folder`, and its weights will be fetched next.
    ///
    /// # Errors
    /// Why the weights are not wanted.
    fn settings(&mut self, _folder: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

/// Does not want to know.
impl Watch for () {}

impl Hub {
    /// A hub and cache. Nothing is asked or looked at yet.
    ///
    /// # Errors
    /// [`HubError::Trust`].
    pub fn new(settings: Settings) -> Result<Self, HubError> {
        Ok(Self {
            agent: agent(&settings)?,
            settings,
            known: Mutex::default(),
        })
    }

    /// Brings what is wanted of a place to the cache, as far as it is not there, and says where it lies.
    ///
    /// Of a model that is `config.json` and what else is JSON or Jinja beside it, and the safetensors; or a
    /// GGUF file. Of a data set it is the file that is named, or the one file of problems that the folder
    /// has, or all if they are numbered parts of one.
    ///
    /// The hub is asked each time what the revision is now; if it cannot be reached, what is in the cache
    /// counts. Files are there whole or not at all.
    ///
    /// # Errors
    /// [`HubError`], which says what to do.
    pub fn fetch(&self, place: &HubPath, watch: &mut dyn Watch) -> Result<Fetched, HubError> {
        let known = || {
            self.known
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
        };
        if let Some(found) = known().get(place) {
            return Ok(found.clone());
        }
        let found = self.look(place, watch)?;
        known().insert(place.clone(), found.clone());
        Ok(found)
    }

    fn look(&self, place: &HubPath, watch: &mut dyn Watch) -> Result<Fetched, HubError> {
        let repository = Repository::new(&self.settings.cache, place);
        if self.settings.offline {
            let offline = || HubError::Offline {
                place: Box::new(place.clone()),
                cache: self.settings.cache.clone(),
            };
            return cached(&repository, place).ok_or_else(offline);
        }
        let web = Web::new(&self.agent, &self.settings);
        match web.listing(place) {
            Ok(listing) => self.bring(&web, &repository, place, &listing, watch),
            Err(Failure::Final(error)) => Err(error),
            Err(Failure::Passing { reason, .. }) => match cached(&repository, place) {
                Some(found) => {
                    watch.unreachable(&found.pinned, &reason);
                    Ok(found)
                }
                None => Err(HubError::Unreachable {
                    place: Box::new(place.clone()),
                    endpoint: self.settings.endpoint.clone(),
                    reason,
                }),
            },
        }
    }

    fn bring(
        &self,
        web: &Web<'_>,
        repository: &Repository,
        place: &HubPath,
        listing: &Listing,
        watch: &mut dyn Watch,
    ) -> Result<Fetched, HubError> {
        let commit = &listing.commit;
        let snapshot = repository.snapshot(commit);
        let tame: Vec<String> = listing
            .files
            .iter()
            .filter(|file| is_tame(file))
            .cloned()
            .collect();
        let selection = select(place, &tame)?;
        let bringing = Bringing {
            hub: self,
            web,
            repository,
            place,
            commit,
            snapshot: &snapshot,
        };
        bringing.files(&selection.files, watch)?;
        let weights = match &selection.weights {
            Weights::None => Vec::new(),
            Weights::One(file) => vec![file.clone()],
            Weights::Indexed(index) => shards(place, index, &read(&snapshot.join(index))?)?,
        };
        let missing = weights.iter().any(|file| !snapshot.join(file).is_file());
        if place.kind == Kind::Model && missing && !selection.files.is_empty() {
            let unwanted = |source| HubError::Unwanted {
                place: Box::new(place.clone()),
                source,
            };
            let folder = snapshot.join(&selection.target);
            watch.settings(&folder).map_err(unwanted)?;
        }
        bringing.files(&weights, watch)?;
        repository.remember(commit)?;
        Ok(found(place, commit, &snapshot, &selection))
    }
}

/// A commit whose files are being brought to the cache.
struct Bringing<'a> {
    hub: &'a Hub,
    web: &'a Web<'a>,
    repository: &'a Repository,
    place: &'a HubPath,
    commit: &'a str,
    snapshot: &'a Path,
}

impl Bringing<'_> {
    fn files(&self, files: &[String], watch: &mut dyn Watch) -> Result<(), HubError> {
        let missing = files
            .iter()
            .filter(|file| !self.snapshot.join(file).is_file());
        let mut wanted = Vec::new();
        for file in missing {
            wanted.push((file, self.described(file, watch)?));
        }
        let total = wanted.iter().map(|(_, described)| described.size).sum();
        if !wanted.is_empty() {
            watch.begins(self.place, wanted.len(), total);
        }
        let mut before = 0;
        for (file, described) in wanted {
            let size = described.size;
            Transfer {
                web: self.web,
                settings: &self.hub.settings,
                place: self.place,
                repository: self.repository,
                commit: self.commit,
                file,
                described,
                before,
                total,
            }
            .run(watch)?;
            before += size;
        }
        Ok(())
    }

    /// What the hub says of a file, asked a few times.
    fn described(&self, file: &str, watch: &mut dyn Watch) -> Result<Described, HubError> {
        let settings = &self.hub.settings;
        let mut failures = 0;
        loop {
            match self.web.describe(self.place, self.commit, file) {
                Ok(described) => return Ok(described),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing {
                    reason,
                    retry_after,
                }) => {
                    failures += 1;
                    if failures >= settings.patience {
                        return Err(HubError::BrokenOff {
                            file: file.to_owned(),
                            reason,
                        });
                    }
                    watch.trouble(file, &reason);
                    let wait = settings
                        .first_wait
                        .saturating_mul(1 << (failures - 1).min(6));
                    std::thread::sleep(wait.max(retry_after.unwrap_or_default()));
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<String, HubError> {
    fs::read_to_string(path).map_err(|source| crate::cache::failed(path, source))
}

fn found(place: &HubPath, commit: &str, snapshot: &Path, selection: &Selection) -> Fetched {
    let path = match selection.target.as_str() {
        "" => snapshot.to_path_buf(),
        target => snapshot.join(target),
    };
    let pinned = HubPath {
        revision: Some(commit.to_owned()),
        ..place.clone()
    };
    Fetched { path, pinned }
}

/// What the cache alone has of a place, if that is whole.
fn cached(repository: &Repository, place: &HubPath) -> Option<Fetched> {
    let commit = repository.commit()?;
    let snapshot = repository.snapshot(&commit);
    let files = repository.files(&commit);
    let selection = select(place, &files).ok()?;
    if let Weights::Indexed(index) = &selection.weights {
        let shards = shards(place, index, &read(&snapshot.join(index)).ok()?).ok()?;
        if !shards.iter().all(|shard| files.contains(shard)) {
            return None;
        }
    }
    Some(found(place, &commit, &snapshot, &selection))
}
