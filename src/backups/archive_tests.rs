use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::config::Recipient;

struct Sample {
    folder: tempfile::TempDir,
    keys: Keys,
    manifest: Manifest,
}

impl Sample {
    fn new(encrypted: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let recipients: Vec<Recipient> = if encrypted { vec![recipient()] } else { Vec::new() };
        let keys = Keys::of_service(&folder.path().join("secrets"), &recipients).expect("keys");
        let database = folder.path().join("db");
        std::fs::write(&database, (0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).expect("written");
        let identity = Identity { instance: "1f0c9a3e-0000-4000-8000-000000000000".into(), timeline: 3 };
        let manifest = Manifest::new(identity, 5, Timestamp::from_micros(7), &hash(&database).expect("a hash"));
        let sample = Self { folder, keys, manifest };
        let small = [("agentd.toml".into(), b"[log]".to_vec()), ("secrets/a.key".into(), b"word".to_vec())];
        pack(&sample.path(), &sample.keys, &sample.manifest, &database, &small).expect("packed");
        sample
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("backup")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).expect("the file")
    }
}

fn recipient() -> Recipient {
    let public = age::x25519::Identity::generate().to_public().to_string();
    crate::config::Recipient::parse_for_tests(&public)
}

fn samples() -> &'static [Sample; 2] {
    static SAMPLES: OnceLock<[Sample; 2]> = OnceLock::new();
    SAMPLES.get_or_init(|| [Sample::new(false), Sample::new(true)])
}

#[test]
fn what_is_packed_is_unpacked() {
    for (encrypted, sample) in [false, true].into_iter().zip(samples()) {
        let copy = sample.folder.path().join(format!("copy {encrypted}"));
        let unpacked = unpack(&sample.path(), &sample.keys, Some(&copy), Pace::Full).expect("unpacked");
        assert_eq!(unpacked.manifest, sample.manifest);
        assert_eq!(hash(&copy).expect("a hash").sha256, sample.manifest.database_sha256);
        let names: Vec<_> = unpacked.small.iter().map(|(name, _)| name.as_str()).collect();
        let expected: &[&str] = if encrypted { &["agentd.toml", "secrets/a.key"] } else { &[] };
        assert_eq!(names, expected, "only what is encrypted holds secrets");
    }
}

#[test]
fn what_is_made_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    for sample in samples() {
        let copy = sample.folder.path().join("for its owner");
        unpack(&sample.path(), &sample.keys, Some(&copy), Pace::Full).expect("unpacked");
        for path in [copy, sample.path()] {
            let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        }
    }
}

#[test]
fn who_has_no_key_is_told_so() {
    let encrypted = &samples()[1];
    let none = unpack(&encrypted.path(), &Keys::default(), None, Pace::Full).expect_err("no key");
    assert!(none.to_string().contains("--identity"), "{none}");
    let other = unpack(&encrypted.path(), &Sample::new(true).keys, None, Pace::Full).expect_err("another's key");
    assert!(other.to_string().contains("for somebody else"), "{other}");
}

fn strange(name: &str, kind: tar::EntryType, content: &[u8], manifest: &str) -> BackupError {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, MANIFEST, manifest.len() as u64, manifest.as_bytes(), Timestamp::from_micros(0))
        .expect("in memory");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    // As it is, however wrong: `append_data` would refuse it.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    tar.append(&header, content).expect("in memory");
    let packed = zstd::encode_all(&tar.into_inner().expect("in memory")[..], 1).expect("in memory");
    read(&packed[..], &Keys::default(), None).expect_err("refused")
}

#[test]
fn strange_archives_are_refused() {
    let fine = serde_json::to_string(&samples()[0].manifest).expect("JSON");
    for name in
        ["../agentd.db", "/etc/passwd", "secrets/../../a", "secrets/", "secrets/.a", "secrets/a/b", "manifest.json"]
    {
        let error = strange(name, tar::EntryType::Regular, b"", &fine);
        assert!(error.to_string().contains("not expected"), "{name}: {error}");
    }
    let link = strange("agentd.db", tar::EntryType::Symlink, b"", &fine);
    assert!(link.to_string().contains("is no file"), "{link}");
    let long = strange("agentd.toml", tar::EntryType::Regular, &vec![b'#'; 2 << 20], &fine);
    assert!(long.to_string().contains("too long"), "{long}");
    let other = strange("agentd.db", tar::EntryType::Regular, b"another", &fine);
    assert!(other.to_string().contains("not the one that was put in"), "{other}");
    let newer = strange("agentd.db", tar::EntryType::Regular, b"", r#"{"format":2}"#);
    assert!(newer.to_string().contains("newer agentd"), "{newer}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_cut_off_is_never_taken_for_whole(which in 0..2_usize, at in 0.0..1.0_f64) {
        let sample = &samples()[which];
        let whole = sample.bytes();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in the file")]
        let cut = &whole[..(whole.len() as f64 * at) as usize];
        prop_assert!(read(cut, &sample.keys, None).is_err());
    }

    #[test]
    fn what_is_altered_is_never_taken_for_the_same(which in 0..2_usize, at: prop::sample::Index, flip in 1..=255_u8) {
        let sample = &samples()[which];
        let mut altered = sample.bytes();
        let at = at.index(altered.len());
        altered[at] ^= flip;
        if let Ok(unpacked) = read(&altered[..], &sample.keys, None) {
            // Bytes that mean nothing, such as padding: then nothing has changed.
            prop_assert_eq!(unpacked.manifest, sample.manifest.clone());
        }
    }

    #[test]
    fn made_up_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), packed: bool) {
        let bytes = if packed { zstd::encode_all(&bytes[..], 1).expect("in memory") } else { bytes };
        prop_assert!(read(&bytes[..], &Keys::default(), None).is_err());
    }
}
