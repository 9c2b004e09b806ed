//! The ledger as a whole, over a real database: against a plain model, under
//! many at once, and over the end of the process.

mod escrow;
mod model;

use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::future::join_all;
use tokio::runtime::Runtime;

use super::*;
use crate::config::{self, Sources};
use crate::db::Options;

/// Noon of some day.
const NOON: i64 = 1_780_315_200_000_000;
const HOUR: i64 = 3_600_000_000;

struct House {
    budgets: Option<Budgets>,
    db: Db,
    now: Arc<AtomicI64>,
    settings: BudgetSection,
    folder: tempfile::TempDir,
    runtime: Runtime,
}

fn settings() -> BudgetSection {
    let settings = config::load(&Sources::default()).expect("the defaults are valid").config.budget;
    BudgetSection { service_day: None, session: None, ..settings }
}

fn usd(text: &str) -> Usd {
    text.parse().expect("an amount")
}

impl House {
    fn new(settings: BudgetSection) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("one");
        let db = open_db(&folder);
        let tenants = "INSERT INTO tenants (no, id, name, status, cohort, created_at, updated_at)
                       VALUES (1, 'a', 'a', 'active', 'everyone', 0, 0), (2, 'b', 'b', 'active', 'everyone', 0, 0)";
        runtime.block_on(db.write(move |tx| tx.execute(tenants, []))).expect("tenants");
        let now = Arc::new(AtomicI64::new(NOON));
        let mut house = Self { budgets: None, db, now, settings, folder, runtime };
        house.start();
        house
    }

    fn start(&mut self) {
        let now = self.now.clone();
        let clock = Clock::from_fn(move || Timestamp::from_micros(now.load(Ordering::Relaxed)));
        let last = self.runtime.block_on(Budgets::last_no(&self.db)).expect("a number");
        let parts = Parts {
            db: self.db.clone(),
            ids: IdSource::new(clock.clone(), last),
            clock,
            settings: self.settings.clone(),
            runtime: self.runtime.handle().clone(),
        };
        let opened = self.runtime.block_on(Budgets::open(parts, &prometheus::Registry::new()));
        self.budgets = Some(opened.expect("opens"));
    }

    /// Another process takes the place of this one, which had time to write what
    /// was settled.
    fn restart(&mut self) {
        self.flush();
        self.start();
    }

    /// Another process takes the place of one that was killed.
    fn killed(&mut self) {
        self.db.close();
        self.db = open_db(&self.folder);
        self.start();
    }

    fn budgets(&self) -> &Budgets {
        self.budgets.as_ref().expect("it runs")
    }

    fn flush(&self) {
        assert!(self.runtime.block_on(self.budgets().0.settle_up(Duration::from_secs(30))), "written in time");
    }

    fn reserve(&self, payer: &Payer, amount: Usd) -> Result<Reservation, Refused> {
        self.runtime.block_on(self.budgets().reserve(payer, planned(amount)))
    }

    fn advance(&self, micros: i64) {
        self.now.fetch_add(micros, Ordering::Relaxed);
    }

    fn standing(&self, payer: &Payer, scope: Scope) -> Standing {
        let standings = self.runtime.block_on(self.budgets().standings(payer)).expect("standings");
        *standings.iter().find(|standing| standing.scope == scope).expect("the scope")
    }

    fn limit(&self, tenant: i64, day: Option<Usd>, month: Option<Usd>, session: Option<Usd>) {
        let budget = TenantBudget { day_usd: day, month_usd: month, session_usd: session, ..TenantBudget::default() };
        let id = if tenant == 1 { "a" } else { "b" };
        let set = self.budgets().set_tenant_budget(id.into(), budget);
        assert!(self.runtime.block_on(set).expect("written"), "there is such a tenant");
    }

    fn number(&self, sql: &'static str) -> i64 {
        let read = self.db.read(move |tx| tx.one(sql, [], |row| row.get(0)));
        self.runtime.block_on(read).expect("reads").expect("a number")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.db.close();
    }
}

fn open_db(folder: &tempfile::TempDir) -> Db {
    let options = Options {
        path: folder.path().join("agentd.db"),
        readers: 1,
        read_deadline: Duration::from_secs(10),
        queue: 10_000,
        wal_bound: 64 << 20,
        min_free_bytes: 0,
        progress: db::Progress::default(),
        more_migrations: Vec::new(),
    };
    Db::open(options, &prometheus::Registry::new()).expect("opens").0
}

fn planned(amount: Usd) -> Planned {
    Planned { model: "m".into(), provider: "p".into(), purpose: "test", amount }
}

fn spent(cost: Usd) -> Spent {
    let tokens = Tokens { input: 3, cached: 1, output: 2, reasoning: 1 };
    Spent { cost, tokens, counted_by_provider: true }
}

fn payer(tenant: i64) -> Payer {
    Payer { tenant, key: None, session: None, job: None }
}

fn exhausted(outcome: Result<Reservation, Refused>) -> Exhausted {
    match outcome {
        Err(Refused::Exhausted(exhausted)) => *exhausted,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_scope_is_held_to_its_limit_and_named() {
    let mut house = House::new(BudgetSection { service_day: Some(usd("10")), ..settings() });
    house.limit(1, Some(usd("5")), Some(usd("6")), Some(usd("2")));
    let refused = |house: &House, payer: &Payer, amount: &str| exhausted(house.reserve(payer, usd(amount))).scope;
    assert_eq!(refused(&house, &payer(2), "10.000000001"), Scope::ServiceDay);
    assert_eq!(refused(&house, &payer(1), "5.1"), Scope::TenantDay);
    let session = Payer { session: Some("s".into()), ..payer(1) };
    assert_eq!(refused(&house, &session, "2.1"), Scope::Session);
    let job = Payer { job: Some(JobPayer { no: 7, cap: Some(usd("1")) }), ..payer(1) };
    assert_eq!(refused(&house, &job, "1.1"), Scope::Job);
    let key = Payer { key: Some("k".into()), ..payer(1) };
    house.budgets().0.ledger().set_key_limit(1, &"k".into(), Some(usd("0.5")));
    assert_eq!(refused(&house, &key, "0.6"), Scope::Key);

    let all = Payer { session: Some("s".into()), job: job.job, key: key.key.clone(), tenant: 1 };
    let held = house.reserve(&all, usd("0.5")).expect("all can pay");
    for scope in Scope::ALL {
        let standing = house.standing(&all, scope);
        assert_eq!((standing.spent, standing.reserved), (Usd::ZERO, usd("0.5")), "{scope:?}");
    }
    assert_eq!(refused(&house, &key, "0.000000001"), Scope::Key);
    held.settle(spent(usd("0.25")));
    house.restart();
    house.budgets().0.ledger().set_key_limit(1, &"k".into(), Some(usd("0.5")));
    for scope in Scope::ALL {
        let standing = house.standing(&all, scope);
        assert_eq!((standing.spent, standing.reserved), (usd("0.25"), Usd::ZERO), "{scope:?} after a restart");
    }
    assert_eq!(house.budgets().left(&all), Some(usd("0.25")));
    // The month holds when the day has room again.
    house.limit(1, Some(usd("5")), Some(usd("1")), None);
    let month = exhausted(house.reserve(&payer(1), usd("0.8")));
    assert_eq!((month.scope, month.resets_at), (Scope::TenantMonth, Timestamp::parse("2026-07-01T00:00:00Z")));
}

#[test]
fn a_cap_of_nothing_refuses_what_costs_and_lets_the_rest_through() {
    let house = House::new(settings());
    house.limit(1, Some(Usd::ZERO), None, None);
    let refused = exhausted(house.reserve(&payer(1), Usd::from_nano(1)));
    assert_eq!((refused.scope, refused.limit, refused.resets_at), (Scope::TenantDay, Usd::ZERO, None));
    house.reserve(&payer(1), Usd::ZERO).expect("it costs nothing").settle(spent(Usd::ZERO));
    house.flush();
    assert_eq!(house.number("SELECT calls FROM spend_daily"), 1);
}

#[test]
fn a_cap_lowered_below_what_is_spent_refuses_until_the_window_rolls() {
    let house = House::new(settings());
    house.limit(1, Some(usd("5")), None, None);
    house.reserve(&payer(1), usd("4")).expect("it fits").settle(spent(usd("4")));
    house.limit(1, Some(usd("1")), None, None);
    let refused = exhausted(house.reserve(&payer(1), usd("0.1")));
    assert_eq!((refused.spent, refused.limit), (usd("4"), usd("1")));
    assert_eq!(house.budgets().left(&payer(1)), Some(Usd::ZERO), "never less than nothing");
    let resets_at = refused.resets_at.expect("when").micros();
    house.now.store(resets_at - 1, Ordering::Relaxed);
    exhausted(house.reserve(&payer(1), usd("0.1")));
    house.now.store(resets_at, Ordering::Relaxed);
    house.reserve(&payer(1), usd("0.1")).expect("in funds again").release();
}

#[test]
fn a_clock_set_forward_and_back_neither_forgets_nor_gives_twice() {
    let house = House::new(settings());
    house.limit(1, Some(usd("1")), None, None);
    house.reserve(&payer(1), usd("1")).expect("it fits").settle(spent(usd("1")));
    house.advance(1_000 * 24 * HOUR);
    house.reserve(&payer(1), usd("0.4")).expect("another day").settle(spent(usd("0.4")));
    // What is in memory alone can be dropped now; what comes back is read again.
    house.flush();
    let now = house.budgets().0.clock.now();
    house.budgets().0.ledger().tidy(now, true);
    house.advance(-1_000 * 24 * HOUR);
    let refused = exhausted(house.reserve(&payer(1), Usd::from_nano(1)));
    assert_eq!(refused.spent, usd("1.4"), "and what was spent in the future counts");
    house.advance(25 * HOUR);
    let standing = house.standing(&payer(1), Scope::TenantDay);
    assert_eq!(standing.spent, usd("0.4"));
}

#[test]
fn a_call_that_costs_more_than_was_held_is_settled_in_full() {
    let house = House::new(settings());
    house.limit(1, Some(usd("1")), None, None);
    house.reserve(&payer(1), usd("0.5")).expect("it fits").settle(spent(usd("1.5")));
    let refused = exhausted(house.reserve(&payer(1), Usd::from_nano(1)));
    assert_eq!(refused.spent, usd("1.5"));
    house.flush();
    assert_eq!(house.number("SELECT count(*) FROM model_calls WHERE flag = 'over' AND cost = 1500000000"), 1);
}

#[test]
fn what_nobody_settles_is_settled_in_full() {
    let mut house = House::new(settings());
    drop(house.reserve(&payer(1), usd("0.1")).expect("unlimited"));
    let lost = house.reserve(&payer(1), usd("0.2")).expect("unlimited");
    house.reserve(&payer(1), usd("0.4")).expect("unlimited").release();
    std::mem::forget(lost);
    house.flush();
    let flags = "SELECT count(*) FROM model_calls WHERE flag = 'assumed' AND cost = 100000000";
    let open = "SELECT count(*) FROM model_reservations";
    assert_eq!((house.number(flags), house.number("SELECT count(*) FROM model_calls"), house.number(open)), (1, 1, 1));
    house.killed();
    let flags = "SELECT count(*) FROM model_calls WHERE flag = 'recovered' AND cost = 200000000";
    assert_eq!(house.number(flags), 1);
    assert_eq!(house.standing(&payer(1), Scope::TenantDay).spent, usd("0.3"));
    house.restart();
    assert_eq!(house.standing(&payer(1), Scope::TenantDay).spent, usd("0.3"), "and only once");
}

#[test]
fn what_the_version_before_has_reserved_is_settled_in_full() {
    let mut house = House::new(settings());
    let row = "INSERT INTO model_calls (no, tenant_no, key_id, model, provider, purpose, state, reserved, created_at)
               VALUES (1, 1, 'k', 'm', 'p', 'chat', 'reserved', 200000000, 0)";
    house.runtime.block_on(house.db.write(move |tx| tx.execute(row, []))).expect("written");
    house.killed();
    let settled = "SELECT count(*) FROM model_calls WHERE state = 'settled' AND flag = 'recovered' AND key_id = 'k'
                   AND reserved = 200000000 AND cost = 200000000";
    assert_eq!(house.number(settled), 1);
    assert_eq!(house.number("SELECT nano FROM spend_totals WHERE kind = 'key' AND id = 'k'"), 200_000_000);
    assert_eq!(house.number("SELECT count(*) FROM model_reservations"), 0);
}

#[test]
fn a_kill_after_the_answer_costs_what_it_cost_or_what_was_held() {
    let mut house = House::new(settings());
    for _ in 0..20 {
        house.reserve(&payer(1), usd("0.02")).expect("unlimited").settle(spent(usd("0.01")));
    }
    house.killed();
    let total = house.standing(&payer(1), Scope::TenantDay).spent;
    // What was written, and as much as was ever held at once.
    assert!(total >= usd("0.2") && total <= usd("0.6"), "{total}");
    assert_eq!(house.number("SELECT sum(cost) FROM model_calls"), total.nano());
}

#[test]
fn of_many_at_once_as_many_pass_as_fit() {
    let house = House::new(settings());
    house.limit(1, Some(usd("1")), None, None);
    let payer = Payer { session: Some("s".into()), key: Some("k".into()), ..payer(1) };
    let calls = (0..1_000).map(|_| {
        let (budgets, payer) = (house.budgets().clone(), payer.clone());
        house.runtime.spawn(async move { budgets.reserve(&payer, planned(usd("0.007"))).await })
    });
    let outcomes: Vec<_> = house.runtime.block_on(join_all(calls.collect::<Vec<_>>()));
    let (held, refused): (Vec<_>, Vec<_>) =
        outcomes.into_iter().map(|outcome| outcome.expect("no panic")).partition(Result::is_ok);
    assert_eq!((held.len(), refused.len()), (142, 858));
    assert!(refused.into_iter().all(|refused| exhausted(refused).scope == Scope::TenantDay));
    assert_eq!(house.number("SELECT sum(amount) FROM model_reservations"), 142 * usd("0.007").nano());
    for reservation in held {
        reservation.expect("held").settle(spent(usd("0.007")));
    }
    house.flush();
    let total = 142 * usd("0.007").nano();
    assert_eq!(house.number("SELECT sum(nano) FROM spend WHERE tenant_no = 1"), total);
    assert_eq!(house.number("SELECT sum(nano) FROM spend WHERE tenant_no = -1"), total);
    assert_eq!(house.number("SELECT nano FROM spend_totals WHERE kind = 'session'"), total);
    assert_eq!(house.number("SELECT nano FROM spend_daily WHERE calls = 142 AND input_tokens = 426"), total);
}

#[test]
fn whoever_hangs_up_before_the_commit_pays_nothing() {
    let house = House::new(settings());
    for _ in 0..50 {
        house.runtime.block_on(async {
            let (budgets, payer) = (house.budgets(), payer(1));
            let reserving = budgets.reserve(&payer, planned(usd("1")));
            // Dropped at its first wait, whatever the writer makes of it; but for those that
            // have nothing to wait for, because others have left something.
            if let Some(reserved) = futures_util::FutureExt::now_or_never(reserving) {
                reserved.expect("unlimited").release();
            }
        });
    }
    // What is put after them is written after them.
    house.runtime.block_on(house.db.write(|_| Ok(()))).expect("written");
    house.flush();
    assert_eq!(house.standing(&payer(1), Scope::TenantDay).reserved, Usd::ZERO);
    assert_eq!(
        house.number("SELECT (SELECT count(*) FROM model_calls) + (SELECT count(*) FROM model_reservations)"),
        0
    );
}

#[test]
fn what_was_given_back_and_reserved_again_is_spent_once_when_the_process_is_killed() {
    let mut house = House::new(settings());
    for cap in ["1", "2", "3"] {
        house.limit(1, Some(usd(cap)), None, None);
        let first = house.reserve(&payer(1), usd("1")).expect("it fits");
        first.settle(spent(usd("0.1")));
        house.reserve(&payer(1), usd("0.9")).expect("it was given back").release();
        let last = house.reserve(&payer(1), usd("0.9")).expect("it was given back");
        house.killed();
        drop(last);
        assert_eq!(house.standing(&payer(1), Scope::TenantDay).spent, usd(cap));
    }
}

#[test]
fn what_cannot_be_written_is_given_back() {
    let house = House::new(settings());
    house.db.close();
    match house.reserve(&payer(1), usd("1")) {
        Err(Refused::Database(db::Error::Closed)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(house.budgets().0.ledger().reserved(), Usd::ZERO);
}

#[test]
fn alerts_are_raised_once_in_a_window() {
    let mut house = House::new(settings());
    house.limit(1, Some(usd("1")), None, None);
    let pay = |house: &House, amount: &str| {
        house.reserve(&payer(1), usd(amount)).expect("it fits").settle(spent(usd(amount)));
    };
    let told = |house: &House| {
        house.flush();
        house.runtime.block_on(house.db.write(|_| Ok(()))).expect("written");
        let alerts = house.runtime.block_on(house.db.read(|tx| sql::alerts(tx, 10))).expect("alerts");
        alerts.iter().map(|alert| alert.percent).collect::<Vec<_>>()
    };
    pay(&house, "0.79");
    assert!(told(&house).is_empty());
    pay(&house, "0.01");
    pay(&house, "0.1");
    assert_eq!(told(&house), [80]);
    house.restart();
    pay(&house, "0.05");
    assert_eq!(told(&house), [80], "not again after a restart");
    exhausted(house.reserve(&payer(1), usd("0.06")));
    exhausted(house.reserve(&payer(1), usd("0.06")));
    assert_eq!(told(&house), [100, 80], "what refuses is exhausted");
    house.limit(1, Some(usd("1.1")), None, None);
    pay(&house, "0.01");
    assert_eq!(told(&house), [80, 100, 80], "another limit, another alert");
    house.advance(48 * HOUR);
    pay(&house, "1.1");
    assert_eq!(told(&house), [100, 80, 100, 80], "the larger one tells of the smaller one too");
}

#[test]
fn a_deleted_tenant_leaves_what_the_service_has_spent() {
    let house = House::new(BudgetSection { service_day: Some(usd("1")), ..settings() });
    let session = Payer { session: Some("s".into()), key: Some("k".into()), ..payer(1) };
    house.reserve(&session, usd("0.5")).expect("it fits").settle(spent(usd("0.5")));
    let late = house.reserve(&session, usd("0.25")).expect("it fits");
    house.flush();
    let mark = "UPDATE tenants SET status = 'deleted' WHERE no = 1";
    house.runtime.block_on(house.db.write(move |tx| tx.execute(mark, []))).expect("deleted");
    house.runtime.block_on(house.budgets().clear_tenant(1)).expect("cleared");
    late.settle(spent(usd("0.25")));
    house.flush();
    for sql in [
        "SELECT count(*) FROM model_calls",
        "SELECT count(*) FROM model_reservations",
        "SELECT count(*) FROM spend WHERE tenant_no = 1",
        "SELECT count(*) FROM spend_daily",
        "SELECT count(*) FROM spend_totals",
    ] {
        assert_eq!(house.number(sql), 0, "{sql}");
    }
    assert_eq!(house.standing(&payer(2), Scope::ServiceDay).spent, usd("0.75"));
    assert_eq!(house.number("SELECT sum(nano) FROM spend"), usd("0.75").nano());
}

#[test]
fn old_calls_are_forgotten_and_their_sums_are_not() {
    let house = House::new(settings());
    for _ in 0..3 {
        house.reserve(&payer(1), usd("0.5")).expect("unlimited").settle(spent(usd("0.5")));
    }
    house.flush();
    house.advance(31 * 24 * HOUR);
    house.reserve(&payer(1), usd("0.5")).expect("unlimited").settle(spent(usd("0.5")));
    house.flush();
    let old = sql::Old::at(house.budgets().0.clock.now(), Duration::from_secs(30 * 86_400), Duration::MAX);
    let mut pieces = 0;
    while house.runtime.block_on(house.db.read(move |tx| sql::has_old(tx, old))).expect("reads") {
        house.runtime.block_on(house.db.write(move |tx| sql::forget(tx, old, 2))).expect("written");
        pieces += 1;
    }
    assert_eq!((pieces, house.number("SELECT count(*) FROM model_calls")), (2, 1));
    assert_eq!(house.number("SELECT sum(calls) FROM spend_daily"), 4);
}

/// `cargo test --release --lib budgets::tests::throughput -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let house = House::new(BudgetSection { service_day: Some(usd("1000000")), ..settings() });
    let began = std::time::Instant::now();
    let each = 500;
    let tasks = (0..64).map(|task| {
        let budgets = house.budgets().clone();
        let payer = Payer { key: Some("k".into()), session: Some(format!("s{task}").into()), ..payer(1) };
        house.runtime.spawn(async move {
            for _ in 0..each {
                budgets.reserve(&payer, planned(usd("0.001"))).await.expect("it fits").settle(spent(usd("0.0005")));
            }
        })
    });
    house.runtime.block_on(join_all(tasks.collect::<Vec<_>>()));
    let reserved = began.elapsed();
    house.flush();
    eprintln!("{} calls in {reserved:?}, on disk after {:?}", 64 * each, began.elapsed());
}
