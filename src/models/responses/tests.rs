//! What is kept, in a database of its own.

use serde_json::json;
use uuid::Uuid;

use super::id::ResponseId;
use super::object::{Ending, Event, Status, end_as_it_stands};
use super::sql::{self, Background, Chain, New, Step};
use crate::clock::Timestamp;
use crate::db::{self, Db};
use crate::id::IdSource;
use crate::jobs::JobId;

const TENANT: i64 = 1;

struct House {
    db: Db,
    ids: IdSource,
    _folder: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = db::Options {
            path: folder.path().join("agentd.db"),
            readers: 1,
            read_deadline: std::time::Duration::from_secs(10),
            queue: 1_000,
            wal_bound: 64 << 20,
            min_free_bytes: 0,
            progress: db::Progress::default(),
            more_migrations: Vec::new(),
        };
        let (db, _) = Db::open(options, &prometheus::Registry::new()).expect("opens");
        let tenant = "INSERT INTO tenants (no, id, name, status, cohort, created_at, updated_at)
                      VALUES (1, 'x', 'x', 'active', 'everyone', 0, 0)";
        db.write(move |tx| tx.execute(tenant, [])).await.expect("a tenant");
        let clock = crate::clock::Clock::from_fn(|| Timestamp::from_micros(1_700_000_000_000_000));
        Self { db, ids: IdSource::new(clock, 0), _folder: folder }
    }

    fn new_id(&self) -> ResponseId {
        ResponseId(self.ids.next())
    }

    async fn insert(&self, new: New) -> ResponseId {
        let id = new.id;
        self.db.write(move |tx| sql::insert(tx, &new, now())).await.expect("it is written");
        id
    }

    /// A finished response that goes on from another.
    async fn turn(&self, previous: Option<ResponseId>, status: Status) -> ResponseId {
        let id = self.new_id();
        let input = json!([{ "role": "user", "content": id.to_string() }]).to_string();
        let object = json!({ "id": id.to_string(), "output": [] }).to_string();
        self.insert(New { id, tenant: TENANT, status, previous, background: None, input, object }).await
    }

    async fn begun(&self) -> ResponseId {
        let events = vec![event(0), event(1)];
        let job = JobId(Uuid::from_u128(9));
        let background =
            Background { job, key: None, session: Some("s".into()), test: false, request: "{}".into(), events };
        let (id, status) = (self.new_id(), Status::Queued);
        let (input, object) = ("[]".into(), json!({ "output": [], "status": "queued" }).to_string());
        self.insert(New { id, tenant: TENANT, status, previous: None, background: Some(background), input, object })
            .await
    }

    async fn step(&self, id: ResponseId, step: Step) -> bool {
        self.db.write(move |tx| sql::step(tx, id.no(), &step, now())).await.expect("it is written")
    }

    async fn events(&self, id: ResponseId, after: i64) -> Vec<i64> {
        let events = self.db.read(move |tx| sql::events(tx, id.no(), after, 100)).await.expect("they are read");
        events.into_iter().map(|event| event.seq).collect()
    }

    async fn chain(&self, tenant: i64, id: ResponseId, turns: usize, bytes: usize) -> Chain {
        self.db.read(move |tx| sql::chain(tx, tenant, id, turns, bytes)).await.expect("it is read")
    }

    async fn is_there(&self, id: ResponseId) -> bool {
        self.db.read(move |tx| sql::get(tx, TENANT, id)).await.expect("it is read").is_some()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.db.close();
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000)
}

fn event(seq: i64) -> Event {
    Event::new(seq, "response.odd", json!({}))
}

#[tokio::test]
async fn events_are_read_from_anywhere_however_they_were_written() {
    let house = House::new().await;
    let id = house.begun().await;
    assert!(house.step(id, Step::of((2..7).map(event).collect(), None)).await);
    assert!(house.step(id, Step::of(vec![event(7)], None)).await);
    for after in -1..8 {
        assert_eq!(house.events(id, after).await, (after + 1..8).collect::<Vec<_>>());
    }
    assert_eq!(house.events(id, i64::MAX).await, [0_i64; 0]);
}

#[tokio::test]
async fn what_has_ended_stays_as_it_is() {
    let house = House::new().await;
    let id = house.begun().await;
    let object = json!({ "output": [1], "status": "in_progress" });
    let (last, finished) = end_as_it_stands(id, object, &Ending::Cancelled, 2);
    assert!(house.step(id, Step::of(vec![last], Some(&finished))).await);
    assert!(!house.step(id, Step::of(vec![event(3)], None)).await, "what comes too late is not written");
    let (again, finished) = end_as_it_stands(id, json!({}), &Ending::Completed, 3);
    assert!(!house.step(id, Step::of(vec![again], Some(&finished))).await);
    assert_eq!(house.events(id, -1).await, [0, 1, 2]);
    let work = house.db.read(move |tx| sql::work(tx, TENANT, id)).await.expect("it is read").expect("it is there");
    assert_eq!((work.status, work.last_event, work.session.as_deref()), (Status::Cancelled, 2, Some("s")));
    assert!(work.object.contains("\"output\":[1]"), "{}", work.object);
    assert!(!house.step(house.new_id(), Step::of(vec![event(0)], None)).await, "there is no such response");
}

#[tokio::test]
async fn a_chain_is_read_from_its_beginning_and_within_bounds() {
    let house = House::new().await;
    let first = house.turn(None, Status::Completed).await;
    let second = house.turn(Some(first), Status::Incomplete).await;
    let third = house.turn(Some(second), Status::Completed).await;
    let Chain::Turns(turns) = house.chain(TENANT, third, 3, 10_000).await else { panic!("turns") };
    let said: Vec<_> = turns.iter().map(|(input, _)| input.clone()).collect();
    assert!(said[0].contains(&first.to_string()) && said[2].contains(&third.to_string()), "{said:?}");
    assert_eq!(house.chain(TENANT, third, 2, 10_000).await, Chain::TooLong);
    assert_eq!(house.chain(TENANT, third, 3, 100).await, Chain::TooLong);
    assert_eq!(house.chain(2, third, 3, 10_000).await, Chain::Missing, "another tenant's");
    let other = ResponseId(Uuid::from_u128(third.0.as_u128() ^ 1));
    assert_eq!(house.chain(TENANT, other, 3, 10_000).await, Chain::Missing, "the same number, another id");
    let failed = house.turn(Some(third), Status::Failed).await;
    assert_eq!(house.chain(TENANT, failed, 9, 10_000).await, Chain::Unusable(Status::Failed));
    house.db.write(move |tx| sql::delete(tx, TENANT, second)).await.expect("it is deleted");
    assert_eq!(house.chain(TENANT, third, 3, 10_000).await, Chain::Broken);
}

#[tokio::test]
async fn what_a_kept_one_goes_on_from_is_kept() {
    let house = House::new().await;
    let (alone, first) = (house.turn(None, Status::Completed).await, house.turn(None, Status::Completed).await);
    let begun = house.begun().await;
    let second = house.turn(Some(first), Status::Completed).await;
    let before_second = crate::id::moment_of(second.no());
    let expire = async |before: Timestamp| house.db.write(move |tx| sql::expire(tx, before)).await.expect("it is done");
    // Ids of one millisecond: those from it on are not old.
    assert_eq!(expire(before_second).await, 0);
    let later = now().plus(std::time::Duration::from_secs(1));
    assert_eq!(expire(later).await, 3, "those from which nothing goes on");
    assert!(!house.is_there(alone).await && !house.is_there(second).await && !house.is_there(begun).await);
    assert!(house.is_there(first).await);
    assert!(house.events(begun, -1).await.is_empty());
    assert_eq!(expire(later).await, 1);
    assert_eq!(expire(later).await, 0);
}

#[tokio::test]
async fn many_are_deleted_piece_by_piece() {
    let house = House::new().await;
    for _ in 0..70 {
        house.turn(None, Status::Completed).await;
    }
    let begun = house.begun().await;
    for seq in 2..80 {
        house.step(begun, Step::of(vec![event(seq)], None)).await;
    }
    let mut rounds = 0;
    while house.db.write(|tx| sql::clear_tenant(tx, TENANT)).await.expect("it is done") {
        rounds += 1;
    }
    assert!(rounds >= 2, "{rounds}");
    assert!(!house.is_there(begun).await);
}
