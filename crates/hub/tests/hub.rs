//! Fetching from a local server that imitates the hub, and that fails, stalls, cuts, lies and is away.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

mod imitation;

use imitation::{Fault, Imitation, Request, TOKEN, sha256};
use seele_hub::{Fetched, Hub, HubError, HubPath, Kind, Progress, Settings, Watch};
use std::fs;
use std::path::Path;
use std::time::Duration;

const OLD: &str = "1111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222";

fn weights() -> Vec<u8> {
    (0..100_000u32)
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// The hub with a model and a data set, and a cache.
struct Place {
    hub: Imitation,
    cache: tempfile::TempDir,
}

fn place() -> Place {
    let hub = Imitation::start();
    let weights = weights();
    let files: [(&str, &[u8]); 5] = [
        ("README.md", b"a model"),
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"model\": 1}"),
        ("model.safetensors", &weights),
        ("onnx/model.onnx", &weights[..1000]),
    ];
    hub.commit("models/owner/small", OLD, &files);
    let rows: [(&str, &[u8]); 2] = [("data/train rows.jsonl", b"{}\n"), ("README.md", b"rows")];
    hub.commit("datasets/owner/rows", OLD, &rows);
    let cache = tempfile::tempdir().unwrap();
    Place { hub, cache }
}

impl Place {
    fn settings(&self) -> Settings {
        Settings {
            endpoint: self.hub.endpoint.clone(),
            cache: self.cache.path().join("hub"),
            token: None,
            offline: false,
            timeout: Duration::from_millis(300),
            first_wait: Duration::from_millis(1),
            patience: 3,
        }
    }

    /// What a program that begins now gets.
    fn fetch(&self, name: &str) -> Result<Fetched, HubError> {
        fetch(self.settings(), Kind::Model, name, &mut ())
    }

    fn folder(&self) -> std::path::PathBuf {
        self.cache.path().join("hub/models--owner--small")
    }
}

fn fetch(
    settings: Settings,
    kind: Kind,
    name: &str,
    watch: &mut dyn Watch,
) -> Result<Fetched, HubError> {
    Hub::new(settings)?.fetch(&HubPath::parse(kind, name)?, watch)
}

/// What is told.
#[derive(Default)]
struct Told {
    begun: Vec<(usize, u64)>,
    last: Option<(String, u64, u64)>,
    troubles: Vec<String>,
    unreachable: usize,
}

impl Watch for Told {
    fn begins(&mut self, _place: &HubPath, files: usize, bytes: u64) {
        self.begun.push((files, bytes));
    }

    fn progress(&mut self, progress: Progress<'_>) {
        assert!(progress.done <= progress.total, "{progress:?}");
        self.last = Some((progress.file.into(), progress.done, progress.total));
    }

    fn trouble(&mut self, _file: &str, reason: &str) {
        self.troubles.push(reason.into());
    }

    fn unreachable(&mut self, _pinned: &HubPath, _reason: &str) {
        self.unreachable += 1;
    }
}

fn of_contents(requests: &[Request]) -> Vec<&Request> {
    let contents = |request: &&Request| request.method == "GET" && !request.path.contains("/api/");
    requests.iter().filter(contents).collect()
}

#[test]
fn a_model_is_fetched_once_and_lies_where_python_looks_for_it() {
    let place = place();
    let mut told = Told::default();
    let found = fetch(place.settings(), Kind::Model, "hf://owner/small", &mut told).unwrap();
    let snapshot = place.folder().join("snapshots").join(OLD);
    assert_eq!(found.path, snapshot);
    assert_eq!(found.pinned.to_string(), format!("hf://owner/small@{OLD}"));
    let mut names: Vec<String> = fs::read_dir(&snapshot)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["config.json", "model.safetensors", "tokenizer.json"]
    );
    assert_eq!(
        fs::read(snapshot.join("model.safetensors")).unwrap(),
        weights()
    );
    assert_eq!(
        fs::read_to_string(place.folder().join("refs/main")).unwrap(),
        OLD
    );
    let blob = format!("../../blobs/{}", sha256(&weights()));
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(snapshot.join("model.safetensors")).unwrap(),
        Path::new(&blob)
    );
    assert_eq!(told.begun, [(2, 14), (1, 400_000)]);
    assert_eq!(
        told.last,
        Some(("model.safetensors".into(), 400_000, 400_000))
    );
    assert_eq!(of_contents(&place.hub.requests()).len(), 3, "one a file");

    let again = place.fetch("hf://owner/small").unwrap();
    assert_eq!(again, found);
    assert_eq!(
        place.hub.requests().len(),
        1,
        "what main is now is asked, and nothing else"
    );
    assert_eq!(
        place.fetch(&format!("hf://owner/small@{OLD}")).unwrap(),
        found
    );
}

#[test]
fn a_file_of_a_data_set_is_fetched_by_its_name() {
    let place = place();
    let name = "hf://datasets/owner/rows/data/train rows.jsonl";
    let found = fetch(place.settings(), Kind::DataSet, name, &mut ()).unwrap();
    assert!(found.path.ends_with("datasets--owner--rows/snapshots/1111111111111111111111111111111111111111/data/train rows.jsonl"));
    assert_eq!(fs::read(&found.path).unwrap(), b"{}\n");
    let whole = fetch(place.settings(), Kind::DataSet, "hf://owner/rows", &mut ()).unwrap();
    assert_eq!(whole.path, found.path, "the only file of problems");
    let wrong = fetch(
        place.settings(),
        Kind::DataSet,
        "hf://owner/rows/data/train.jsonl",
        &mut (),
    );
    let message = wrong.unwrap_err().to_string();
    assert!(
        message.contains("did you mean `data/train rows.jsonl`"),
        "{message}"
    );
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_was() {
    let place = place();
    let faults = [
        Fault::Cut(1000),
        Fault::Status(503),
        Fault::Stall(5000),
        Fault::Status(403),
        Fault::Cut(300_000),
        Fault::Shifted,
        Fault::Cut(200_000),
        Fault::Whole,
    ];
    place.hub.state().faults = faults.into();
    let mut told = Told::default();
    let found = fetch(place.settings(), Kind::Model, "hf://owner/small", &mut told).unwrap();
    assert_eq!(
        fs::read(found.path.join("model.safetensors")).unwrap(),
        weights()
    );
    assert_eq!(told.troubles.len(), 7, "{:?}", told.troubles);
    let requests = place.hub.requests();
    let ranges: Vec<Option<&str>> = requests
        .iter()
        .filter(|request| request.elsewhere)
        .map(|request| request.range.as_deref())
        .collect();
    let at = |from: &'static str| Some(from);
    let expected = [
        None,
        at("bytes=1000-"),
        at("bytes=1000-"),
        at("bytes=6000-"),
        at("bytes=6000-"),
        at("bytes=306000-"),
        // Another part than was asked for: from the beginning.
        None,
        // All although a part was asked for: that, then.
        at("bytes=200000-"),
    ];
    assert_eq!(ranges, expected);
}

#[test]
fn a_transfer_that_breaks_off_again_and_again_is_given_up_and_taken_up_by_the_next_run() {
    let place = place();
    place.hub.state().faults = [Fault::Cut(4000), Fault::Status(500), Fault::Status(500)].into();
    let error = place.fetch("hf://owner/small").unwrap_err();
    assert!(
        matches!(error, HubError::BrokenOff { .. }) && error.is_failure(),
        "{error}"
    );
    assert!(error.to_string().contains("repeat the command"), "{error}");
    assert!(
        !place
            .folder()
            .join("snapshots")
            .join(OLD)
            .join("model.safetensors")
            .exists()
    );
    place.hub.requests();
    let found = place.fetch("hf://owner/small").unwrap();
    assert_eq!(
        fs::read(found.path.join("model.safetensors")).unwrap(),
        weights()
    );
    let requests = place.hub.requests();
    assert_eq!(
        requests.last().unwrap().range.as_deref(),
        Some("bytes=4000-")
    );
}

#[test]
fn damaged_contents_never_get_their_name() {
    let place = place();
    // What a run before has left is damaged: one more try mends it.
    let partial = place
        .folder()
        .join("blobs")
        .join(format!("{}.incomplete", sha256(&weights())));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, [7; 5000]).unwrap();
    let mut told = Told::default();
    let found = fetch(place.settings(), Kind::Model, "hf://owner/small", &mut told).unwrap();
    assert_eq!(
        fs::read(found.path.join("model.safetensors")).unwrap(),
        weights()
    );
    assert!(
        told.troubles.len() == 1 && told.troubles[0].contains("SHA-256"),
        "{:?}",
        told.troubles
    );

    fs::remove_dir_all(place.cache.path().join("hub")).unwrap();
    place.hub.state().faults = [Fault::Damage, Fault::Damage].into();
    let error = place.fetch("hf://owner/small").unwrap_err();
    assert!(matches!(error, HubError::Damaged { .. }), "{error}");
    assert!(
        !place
            .folder()
            .join("snapshots")
            .join(OLD)
            .join("model.safetensors")
            .exists()
    );
    place.fetch("hf://owner/small").unwrap();
}

#[test]
fn the_token_is_shown_to_the_hub_and_to_nobody_else() {
    let place = place();
    place
        .hub
        .state()
        .repositories
        .get_mut("models/owner/small")
        .unwrap()
        .gated = true;
    let message = place.fetch("hf://owner/small").unwrap_err().to_string();
    for part in ["/owner/small", "hf auth login", "HF_TOKEN"] {
        assert!(message.contains(part), "{message}");
    }
    place.hub.requests();
    let settings = Settings {
        token: Some(TOKEN.into()),
        ..place.settings()
    };
    fetch(settings.clone(), Kind::Model, "hf://owner/small", &mut ()).unwrap();
    let requests = place.hub.requests();
    assert!(requests.iter().any(|request| request.elsewhere));
    for request in requests {
        assert_eq!(request.token.is_none(), request.elsewhere, "{request:?}");
    }
    let wrong = Settings {
        token: Some("hf_old".into()),
        ..settings
    };
    let message = fetch(wrong, Kind::Model, "hf://owner/small", &mut ())
        .unwrap_err()
        .to_string();
    assert!(message.contains("does not take the token"), "{message}");
}

#[test]
fn what_is_not_there_is_said_by_name() {
    let place = place();
    let message = |kind, name: &str| {
        let error = fetch(place.settings(), kind, name, &mut ()).unwrap_err();
        assert!(!error.is_failure());
        error.to_string()
    };
    let missing = message(Kind::Model, "hf://owner/rows");
    for part in [
        "no model repository `owner/rows`",
        "private",
        "names repositories of models",
    ] {
        assert!(missing.contains(part), "{missing}");
    }
    let revision = message(Kind::Model, "hf://owner/small@v9");
    assert!(
        revision.contains("no branch, tag or commit `v9`"),
        "{revision}"
    );
    let gguf = message(Kind::Model, "hf://owner/small/small.gguf");
    assert!(
        gguf.contains("no such file") && gguf.contains("`model.safetensors`"),
        "{gguf}"
    );
}

#[test]
fn without_a_network_the_cache_counts() {
    let place = place();
    let away = Settings {
        endpoint: "http://127.0.0.1:9".into(),
        ..place.settings()
    };
    let error = fetch(away.clone(), Kind::Model, "hf://owner/small@v1", &mut ()).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, HubError::Unreachable { .. }));
    for part in [
        "cannot reach the hub at http://127.0.0.1:9",
        "hf download owner/small --revision v1",
        "HF_ENDPOINT",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let offline = Settings {
        offline: true,
        ..place.settings()
    };
    let error = fetch(offline.clone(), Kind::DataSet, "hf://owner/rows", &mut ()).unwrap_err();
    let message = error.to_string();
    for part in [
        "HF_HUB_OFFLINE",
        "hf download owner/rows --repo-type dataset",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(place.hub.requests(), []);

    let found = place.fetch("hf://owner/small").unwrap();
    place.hub.requests();
    let mut told = Told::default();
    assert_eq!(
        fetch(away, Kind::Model, "hf://owner/small", &mut told).unwrap(),
        found
    );
    assert_eq!(told.unreachable, 1);
    for name in ["hf://owner/small".to_owned(), found.pinned.to_string()] {
        assert_eq!(
            fetch(offline.clone(), Kind::Model, &name, &mut ()).unwrap(),
            found
        );
    }
    assert_eq!(place.hub.requests(), []);
    // Half of it is not it.
    fs::remove_file(place.folder().join("blobs").join(sha256(&weights()))).unwrap();
    assert!(fetch(offline, Kind::Model, "hf://owner/small", &mut ()).is_err());
}

#[test]
fn a_branch_that_moves_is_followed_and_a_commit_stays() {
    let place = place();
    let before = place.fetch("hf://owner/small").unwrap();
    let weights = weights();
    let files: [(&str, &[u8]); 3] = [
        ("config.json", b"{\"new\": 1}"),
        ("tokenizer.json", b"{\"model\": 1}"),
        ("model.safetensors", &weights),
    ];
    place.hub.commit("models/owner/small", NEW, &files);
    place.hub.requests();
    let after = place.fetch("hf://owner/small").unwrap();
    assert_ne!(before.path, after.path);
    assert_eq!(
        fs::read(after.path.join("config.json")).unwrap(),
        files[0].1
    );
    let requests = place.hub.requests();
    assert!(
        requests.iter().all(|request| !request.elsewhere),
        "the weights are the same"
    );
    let pinned = place.fetch(&before.pinned.to_string()).unwrap();
    assert_eq!(pinned, before);
    assert_eq!(fs::read(before.path.join("config.json")).unwrap(), b"{}");
}

#[test]
fn a_renamed_repository_is_found_under_its_old_name() {
    let place = place();
    let renamed = (
        "models/owner/old".to_owned(),
        "models/owner/small".to_owned(),
    );
    place.hub.state().renamed.extend([renamed]);
    let found = place.fetch("hf://owner/old").unwrap();
    assert_eq!(
        fs::read(found.path.join("model.safetensors")).unwrap(),
        weights()
    );
}

#[test]
fn names_that_lead_out_of_the_cache_are_no_files() {
    let place = place();
    let files: [(&str, &[u8]); 4] = [
        ("../../../../escaped.json", b"{}"),
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors", b"0"),
    ];
    place.hub.commit("models/owner/small", NEW, &files);
    let found = place.fetch("hf://owner/small").unwrap();
    assert_eq!(fs::read_dir(&found.path).unwrap().count(), 3);
    assert!(!place.cache.path().join("escaped.json").exists());
}

#[test]
fn weights_of_a_model_that_is_not_wanted_are_not_fetched() {
    struct Unwilling;
    impl Watch for Unwilling {
        fn settings(
            &mut self,
            folder: &Path,
        ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            assert_eq!(fs::read(folder.join("config.json"))?, b"{}");
            Err("it is of an unknown family".into())
        }
    }
    let place = place();
    let error = fetch(
        place.settings(),
        Kind::Model,
        "hf://owner/small",
        &mut Unwilling,
    );
    let message = error.unwrap_err().to_string();
    assert!(message.contains("unknown family"), "{message}");
    assert!(
        place
            .hub
            .requests()
            .iter()
            .all(|request| !request.elsewhere)
    );
}

#[test]
fn programs_that_want_the_same_fetch_it_once() {
    let place = place();
    let found: Vec<Fetched> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| place.fetch("hf://owner/small").unwrap()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(found.iter().all(|one| *one == found[0]));
    assert_eq!(
        fs::read(found[0].path.join("model.safetensors")).unwrap(),
        weights()
    );
    let requests = place.hub.requests();
    assert_eq!(
        requests.iter().filter(|request| request.elsewhere).count(),
        1
    );
}

#[test]
fn what_is_no_hub_is_told_from_one() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let page = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
            let _ = stream.write_all(page.as_bytes());
        }
    });
    let place = place();
    let settings = Settings {
        endpoint,
        ..place.settings()
    };
    let error = fetch(settings, Kind::Model, "hf://owner/small", &mut ()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("does not answer as the hub") && message.contains("HF_ENDPOINT"),
        "{message}"
    );
}
