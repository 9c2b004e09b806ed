//! Files are whole or not there, and nobody's but their tenant's.

use std::time::Duration;

use super::*;
use crate::clock::Timestamp;
use crate::models::testing::Place;

fn new(tenant: i64) -> NewFile {
    NewFile { tenant, name: "a.jsonl".into(), purpose: BATCH, keep: None }
}

async fn put(files: &Files, tenant: i64, content: &[u8], piece: usize) -> Result<FileRow, WriteError> {
    let mut writer = files.begin(new(tenant), Bound::Client).await?;
    for piece in content.chunks(piece) {
        writer.write(piece).await?;
    }
    writer.finish().await?.publish_as(BATCH, None).await
}

async fn whole(files: &Files, row: &FileRow) -> Vec<u8> {
    let mut content = Vec::new();
    let mut seq = 0;
    while let Some(piece) = files.chunk(row.id.no(), seq).await.expect("reads") {
        content.extend_from_slice(&piece);
        seq += 1;
    }
    content
}

fn count(place: &Place, table: &'static str) -> i64 {
    place.count(table)
}

#[test]
fn what_was_written_is_read() {
    let place = Place::new();
    place.run(async {
        for (bytes, piece) in [(0, 1), (1, 1), (CHUNK, CHUNK), (CHUNK + 1, 7_000), (3 * CHUNK, 100_000)] {
            let content: Vec<_> = (0..bytes).map(|place| (place % 251) as u8).collect();
            let row = put(&place.files, 1, &content, piece).await.expect("a file");
            assert_eq!((row.bytes, whole(&place.files, &row).await == content), (bytes as u64, true));
            assert!(place.files.get(2, row.id).await.expect("reads").is_none(), "another tenant's");
        }
    });
}

#[test]
fn half_a_file_is_none_and_goes_away() {
    let place = Place::new();
    place.run(async {
        let mut writer = place.files.begin(new(1), Bound::Client).await.expect("begins");
        writer.write(&vec![1; 2 * CHUNK]).await.expect("writes");
        let id = writer.id();
        assert!(place.files.get(1, id).await.expect("reads").is_none());
        drop(writer);
        // What it left to be written comes before this.
        place.files.recover().await.expect("writes");
        place.files.clear().await.expect("clears");
    });
    assert_eq!((count(&place, "files"), count(&place, "file_chunks")), (0, 0));
}

#[test]
fn what_a_lost_process_was_writing_goes_at_the_next_start() {
    let place = Place::new();
    place.run(async {
        let mut writer = place.files.begin(new(1), Bound::Client).await.expect("begins");
        writer.write(&vec![1; CHUNK]).await.expect("writes");
        std::mem::forget(writer);
        put(&place.files, 1, b"whole", 9).await.expect("a file");
        place.files.recover().await.expect("writes");
        place.files.clear().await.expect("clears");
    });
    assert_eq!((count(&place, "files"), count(&place, "file_chunks")), (1, 1));
}

#[test]
fn files_have_their_bounds() {
    let limits = FilesSection { file_bytes: 1_000, bytes_per_tenant: 1_500, batch_concurrency: 1 };
    let place = Place::with(limits);
    place.run(async {
        let files = &place.files;
        assert!(matches!(put(files, 1, &[0; 1_001], 100).await, Err(WriteError::TooLarge(1_000))));
        put(files, 1, &[0; 1_000], 100).await.expect("fits");
        assert!(matches!(put(files, 1, &[0; 501], 100).await, Err(WriteError::TenantFull(1_500))));
        put(files, 2, &[0; 1_000], 100).await.expect("another tenant has room");
        let row = put(files, 1, &[0; 500], 100).await.expect("fits");
        assert!(matches!(put(files, 1, b"", 1).await, Err(WriteError::TenantFull(1_500))));
        let mut own = files.begin(new(1), Bound::Own).await.expect("its own are never refused");
        own.write(&[0; 2_000]).await.expect("writes");
        own.finish().await.expect("writes").publish_as(BATCH_OUTPUT, None).await.expect("a file");
        files.delete(1, row.id).await.expect("deletes");
        assert_eq!(files.delete(1, row.id).await.expect_err("gone").code(), "not_found");
    });
}

#[test]
fn files_end_at_their_time_and_with_their_tenant() {
    let place = Place::new();
    place.run(async {
        let files = &place.files;
        let writer = files.begin(new(1), Bound::Client).await.expect("begins");
        let hour = Some(Duration::from_secs(3_600));
        let row = writer.finish().await.expect("writes").publish_as(BATCH, hour).await.expect("a file");
        assert_eq!(row.expires_at, Some(row.created_at.plus(Duration::from_secs(3_600))));
        put(files, 1, &[0; 100], 100).await.expect("a file");
        put(files, 2, &vec![0; 20 * CHUNK], CHUNK).await.expect("a file");
        place.set_clock(Timestamp::from_micros(row.created_at.micros() + 3_600_000_000));
        assert!(files.get(1, row.id).await.expect("reads").is_none(), "also before it is deleted");
        files.clear().await.expect("clears");
        assert_eq!(count(&place, "files"), 2);
        files.clear_tenant(2).await;
    });
    assert_eq!((count(&place, "files"), count(&place, "file_chunks")), (1, 1));
}

#[test]
fn a_list_goes_on_where_it_stopped() {
    let place = Place::new();
    place.run(async {
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(put(&place.files, 1, b"x", 1).await.expect("a file").id);
        }
        let page = async |after, newest_first| {
            let wanted = ListRequest { after, limit: 2, newest_first, purpose: Some(BATCH.into()) };
            let rows = place.files.list(1, wanted).await.expect("reads");
            rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(page(None, true).await, [ids[4], ids[3]]);
        assert_eq!(page(Some(ids[3]), true).await, [ids[2], ids[1]]);
        assert_eq!(page(Some(ids[3]), false).await, [ids[4]]);
        let other = ListRequest { after: None, limit: 9, newest_first: true, purpose: Some("vision".into()) };
        assert!(place.files.list(1, other).await.expect("reads").is_empty());
    });
}
