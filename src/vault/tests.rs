//! The vault over a database.

use std::path::Path;

use super::*;
use crate::config::Secret;

fn data(folder: &Path) -> DataSection {
    DataSection {
        dir: folder.into(),
        database: folder.join("agentd.db"),
        min_free: 0,
        wal_bound: 64 << 20,
        master_key: Secret::Unset,
        previous_master_key: Secret::Unset,
    }
}

fn database(folder: &Path) -> Db {
    let options = db::Options {
        path: folder.join("agentd.db"),
        readers: 1,
        read_deadline: std::time::Duration::from_secs(5),
        queue: 100,
        wal_bound: 64 << 20,
        min_free_bytes: 0,
        progress: db::Progress::default(),
        more_migrations: Vec::new(),
    };
    Db::open(options, &prometheus::Registry::new()).expect("opens").0
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn name() -> SecretName {
    SecretName::new("test", "a row")
}

async fn put(db: &Db, vault: &Vault, plain: &'static str) {
    let vault = vault.clone();
    db.write(move |tx| vault.put(tx, &name(), plain.as_bytes())).await.expect("written");
}

async fn get(db: &Db, vault: &Vault) -> Option<String> {
    let vault = vault.clone();
    let found = db.read(move |tx| vault.get(tx, &name())).await.expect("read");
    found.map(|opened| opened.expect("opened").into_text().expect("text"))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file")
}

#[test]
fn a_key_is_made_once_and_another_never() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, data) = (database(folder.path()), data(folder.path()));
    run(async {
        let vault = Vault::open(&db, &data).await.expect("opens");
        assert_eq!(get(&db, &vault).await, None);
        put(&db, &vault, "hidden").await;
        let vault = Vault::open(&db, &data).await.expect("opens again");
        assert_eq!(get(&db, &vault).await.as_deref(), Some("hidden"));
        assert!(matches!(examine(&data), Ok(Standing::Here(_))));
        let path = kept_file(&data.dir);
        std::fs::remove_file(&path).expect("removed");
        for _ in 0..2 {
            assert!(matches!(Vault::open(&db, &data).await, Err(Fault::Missing { .. })));
            assert!(matches!(examine(&data), Err(Fault::Missing { .. })));
            assert!(!path.exists());
        }
        db.write(forget).await.expect("forgotten");
        assert_eq!(examine(&data), Ok(Standing::Unused));
        let vault = Vault::open(&db, &data).await.expect("with a new key");
        assert_eq!(get(&db, &vault).await, None);
        // Nothing is lost with a key that nothing is sealed with.
        std::fs::remove_file(&path).expect("removed");
        let vault = Vault::open(&db, &data).await.expect("with a new key");
        put(&db, &vault, "hidden").await;
        assert_eq!(get(&db, &vault).await.as_deref(), Some("hidden"));
        assert!(Vault::open(&db, &data).await.is_ok());
    });
    db.close();
}

#[test]
fn a_rotation_leaves_at_each_point_a_key_that_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, data) = (database(folder.path()), data(folder.path()));
    let (kept, next) = (kept_file(&data.dir), next_file(&data.dir));
    run(async {
        let vault = Vault::open(&db, &data).await.expect("opens");
        put(&db, &vault, "hidden").await;
        let old = text(&kept);
        // Before the transaction: a new key lies beside the old one.
        std::fs::write(&next, Key::generate().expect("a key").reveal()).expect("written");
        let vault = Vault::open(&db, &data).await.expect("opens");
        assert_eq!(get(&db, &vault).await.as_deref(), Some("hidden"));
        let rotated = vault.rotate().await.expect("rotated");
        assert_eq!((rotated.secrets, next.exists()), (1, false));
        assert_eq!(get(&db, &vault).await.as_deref(), Some("hidden"));
        // After it: the new key has not come into its place.
        std::fs::rename(&kept, &next).expect("renamed");
        std::fs::write(&kept, &old).expect("written");
        assert!(matches!(examine(&data), Ok(Standing::Here(id)) if id == rotated.to));
        let again = vault.rotate().await.expect("it is settled first");
        assert_eq!(again.from, rotated.to);
        let vault = Vault::open(&db, &data).await.expect("opens");
        assert_eq!(get(&db, &vault).await.as_deref(), Some("hidden"));
        put(&db, &vault, "other").await;
        assert_eq!(get(&db, &vault).await.as_deref(), Some("other"));
    });
    db.close();
}

#[test]
fn writes_of_the_same_moment_are_sealed_with_the_key_that_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, data) = (database(folder.path()), data(folder.path()));
    run(async {
        let vault = Vault::open(&db, &data).await.expect("opens");
        for _ in 0..20 {
            let (rotated, ()) = tokio::join!(vault.rotate(), async {
                for _ in 0..20 {
                    put(&db, &vault, "hidden").await;
                }
            });
            rotated.expect("rotated");
        }
        // Only what is in the file now is known then.
        let vault = Vault::open(&db, &data).await.expect("opens");
        assert_eq!(get(&db, &vault).await.as_deref(), Some("hidden"));
    });
    db.close();
}

#[test]
fn a_configured_key_takes_over_when_the_one_before_stands_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, mut data) = (database(folder.path()), data(folder.path()));
    let mine = Key::generate().expect("a key");
    run(async {
        let vault = Vault::open(&db, &data).await.expect("opens");
        put(&db, &vault, "hidden").await;
        let path = folder.path().join("mine");
        std::fs::write(&path, mine.reveal()).expect("written");
        data.master_key = Secret::File(path);
        let fault = Vault::open(&db, &data).await.err().expect("missing").to_string();
        assert!(fault.contains(&mine.id().to_string()) && fault.contains("secrets/master.key has the key"), "{fault}");
        data.previous_master_key = Secret::File(kept_file(&data.dir));
        assert_eq!(examine(&data), Ok(Standing::Changes));
        for _ in 0..2 {
            let vault = Vault::open(&db, &data).await.expect("opens");
            assert_eq!(get(&db, &vault).await.as_deref(), Some("hidden"));
            assert!(matches!(vault.rotate().await, Err(RotateError::Configured)));
        }
        assert_eq!(examine(&data), Ok(Standing::Here(mine.id())));
        // As somebody sees it who does not have the unit's credentials.
        (data.master_key, data.previous_master_key) = (Secret::Unset, Secret::Unset);
        assert_eq!(examine(&data), Ok(Standing::Elsewhere(mine.id())));
        assert!(matches!(Vault::open(&db, &data).await, Err(Fault::Missing { .. })));
    });
    db.close();
}

#[test]
fn a_value_that_was_changed_is_refused_and_keeps_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, data) = (database(folder.path()), data(folder.path()));
    run(async {
        let vault = Vault::open(&db, &data).await.expect("opens");
        put(&db, &vault, "hidden").await;
        let moved =
            "INSERT INTO secrets (name, sealed) SELECT 'test another', sealed FROM secrets WHERE name = 'test a row'";
        db.write(move |tx| tx.execute(moved, [])).await.expect("written");
        let key = text(&kept_file(&data.dir));
        let fault = vault.rotate().await.expect_err("refused").to_string();
        assert!(fault.contains("test another"), "{fault}");
        assert_eq!(text(&kept_file(&data.dir)), key);
        assert_eq!(get(&db, &vault).await.as_deref(), Some("hidden"));
        let swap =
            "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'test a row') WHERE name = 'check'";
        db.write(move |tx| tx.execute(swap, [])).await.expect("written");
        assert!(matches!(Vault::open(&db, &data).await, Err(Fault::Damaged(_))));
    });
    db.close();
}
