//! Budgets: set, shown, and held to, with a handler that spends what it is told.

use serde_json::{Value, json};

use crate::support::client::job_id;
use crate::support::{Client, Server, Setup, eventually};

struct Tenant {
    id: String,
    key: String,
    client: Client,
    admin: Client,
}

fn tenant(server: &Server) -> Tenant {
    let id = server.tenant("a tenant");
    let key = server.key(&id);
    Tenant { key: key.id.clone(), client: server.anyone().with_key(&key), admin: server.admin(), id }
}

impl Tenant {
    fn path(&self) -> String {
        format!("/admin/tenants/{}/budget", self.id)
    }

    #[track_caller]
    fn set(&self, budget: &Value) -> Value {
        self.admin.put(&self.path(), budget).expect(200)
    }

    /// A job that spends, to its end.
    fn spend(&self, input: &Value) -> Value {
        self.client.run(&json!({ "tool": "test.spend", "input": input }))
    }

    #[track_caller]
    fn pay(&self, amount: &str) {
        let job = self.spend(&json!({ "amount": amount, "cost": amount }));
        assert_eq!(job["status"], "succeeded", "{job}");
    }

    /// What a job is told that asks for so much.
    #[track_caller]
    fn refused(&self, input: &Value) -> String {
        let job = self.spend(input);
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("budget_exceeded")), "{job}");
        job["error"]["message"].as_str().expect("a message").to_owned()
    }

    fn standing(&self, query: &str, scope: &str) -> Value {
        let budget = self.client.get(&format!("/v1/budget{query}")).expect(200);
        let of_scope = |standing: &&Value| standing["scope"] == scope;
        budget["data"].as_array().expect("a list").iter().find(of_scope).expect("the scope").clone()
    }
}

fn amounts(standing: &Value) -> [Value; 4] {
    ["limit_usd", "spent_usd", "reserved_usd", "left_usd"].map(|name| standing[name].clone())
}

#[test]
fn a_budget_is_shown_and_replaced_as_a_whole() {
    let mut server = Server::real();
    let tenant = tenant(&server);
    let none = json!({ "day_usd": null, "month_usd": null, "session_usd": null, "on_exhausted": "reject" });
    assert_eq!(tenant.admin.get(&tenant.path()).expect(200), none);
    let full = json!({ "day_usd": "5", "month_usd": "50.25", "session_usd": "0.000000001", "on_exhausted": "clamp" });
    assert_eq!(tenant.set(&full), full);
    let key = format!("/admin/tenants/{}/keys/{}/budget", tenant.id, tenant.key);
    assert_eq!(tenant.admin.put(&key, &json!({ "total_usd": "10.50" })).expect(200), json!({ "total_usd": "10.5" }));
    server.restart();
    assert_eq!(tenant.admin.get(&tenant.path()).expect(200), full);
    assert_eq!(tenant.admin.get(&key).expect(200), json!({ "total_usd": "10.5" }));
    let own = tenant.client.get("/v1/budget?session=s").expect(200);
    assert_eq!((&own["on_exhausted"], &own["left_usd"]), (&json!("clamp"), &json!("0.000000001")), "{own}");
    let limits: Vec<_> =
        own["data"].as_array().expect("a list").iter().map(|it| (&it["scope"], &it["limit_usd"])).collect();
    insta::assert_json_snapshot!(limits, @r#"
    [
      [
        "service_day",
        "50"
      ],
      [
        "tenant_day",
        "5"
      ],
      [
        "tenant_month",
        "50.25"
      ],
      [
        "key",
        "10.5"
      ],
      [
        "session",
        "0.000000001"
      ]
    ]
    "#);
    assert_eq!(tenant.set(&json!({})), none);
    assert_eq!(tenant.admin.put(&key, &json!({})).expect(200), json!({ "total_usd": null }));
    assert_eq!(tenant.standing("?session=s", "session")["limit_usd"], "0.75", "the service's own");
}

#[test]
fn a_budget_is_read_strictly() {
    let server = Server::real();
    let tenant = tenant(&server);
    let wrong = [
        json!("-1"),
        json!("1e3"),
        json!("1,5"),
        json!("0.0000000001"),
        json!("99999999999"),
        json!(""),
        json!(5),
        json!(0.5),
    ];
    let told = |amount: &Value| {
        let problem = tenant.admin.put(&tenant.path(), &json!({ "day_usd": amount })).problem(400, "invalid_request");
        format!("{amount}: {}", problem["detail"].as_str().expect("a detail"))
    };
    insta::assert_snapshot!(wrong.iter().map(told).collect::<Vec<_>>().join("\n"));
    tenant.admin.put(&tenant.path(), &json!({ "on_exhausted": "wait" })).problem(400, "invalid_request");
    tenant.admin.put(&tenant.path(), &json!({ "day": "5" })).fault("unknown_field", "/day");
    tenant.admin.put("/admin/tenants/x/budget", &json!({})).problem(404, "not_found");
    tenant.admin.get("/admin/tenants/x/budget").problem(404, "not_found");
    let other = server.tenant("another");
    for (id, key) in [(&tenant.id, "x"), (&other, tenant.key.as_str())] {
        let path = format!("/admin/tenants/{id}/keys/{key}/budget");
        tenant.admin.put(&path, &json!({ "total_usd": "1" })).problem(404, "not_found");
        tenant.admin.get(&path).problem(404, "not_found");
    }
    tenant.client.get(&tenant.path()).problem(401, "unauthorized");
    tenant.client.get("/v1/budget?sesion=s").fault("invalid_request", "?sesion");
    tenant.client.get(&format!("/v1/budget?session={}", "x".repeat(129))).fault("invalid_request", "?session");
    let narrow =
        server.anyone().with_key(&server.key_with(&tenant.id, &json!({ "name": "k", "scopes": ["jobs:read"] })));
    narrow.get("/v1/budget").problem(403, "forbidden");
}

#[test]
fn what_is_held_and_spent_is_shown_and_held_to() {
    let server = Server::testbed();
    let (tenant, other) = (tenant(&server), tenant(&server));
    tenant.set(&json!({ "day_usd": "1" }));
    let gate = server.gate("gate");
    let input = json!({ "amount": "0.6", "cost": "0.25", "gate": gate.path(), "session": "s", "key": tenant.key });
    let held = tenant.client.submit("test.spend", &input);
    let standing = eventually("it is held", || {
        Some(tenant.standing("", "tenant_day")).filter(|standing| standing["reserved_usd"] == "0.6")
    });
    assert_eq!(amounts(&standing), ["1", "0", "0.6", "0.4"].map(|it| json!(it)));
    let told = tenant.refused(&json!({ "amount": "0.5", "cost": "0" }));
    assert!(told.starts_with("the tenant's budget for a day (tenant_day) cannot pay: limit 1 USD, spent 0"), "{told}");
    other.pay("0.5");
    gate.open();
    tenant.client.finished(&held);
    for (query, scope) in [("", "tenant_day"), ("", "tenant_month"), ("", "key"), ("?session=s", "session")] {
        let standing = tenant.standing(query, scope);
        assert_eq!((&standing["spent_usd"], &standing["reserved_usd"]), (&json!("0.25"), &json!("0")), "{standing}");
    }
    assert_eq!(tenant.standing("", "service_day")["spent_usd"], "0.75", "of both");
    tenant.pay("0.5");
    // A cap lowered below what is spent, one of nothing, and none.
    tenant.set(&json!({ "day_usd": "0.1" }));
    assert_eq!(tenant.standing("", "tenant_day")["left_usd"], "0");
    tenant.refused(&json!({ "amount": "0.000000001" }));
    tenant.set(&json!({ "day_usd": "0" }));
    tenant.refused(&json!({ "amount": "0.000000001" }));
    assert_eq!(tenant.spend(&json!({ "amount": "0", "cost": "0" }))["status"], "succeeded");
    tenant.set(&json!({}));
    tenant.pay("0.5");
}

#[test]
fn a_window_rolls_with_the_clock_and_back_with_it() {
    let server = Server::testbed();
    let tenant = tenant(&server);
    tenant.set(&json!({ "day_usd": "1" }));
    tenant.pay("1");
    tenant.refused(&json!({ "amount": "0.1" }));
    server.set_clock(86_400 + 300);
    tenant.pay("0.4");
    server.set_clock(0);
    assert_eq!(tenant.standing("", "tenant_day")["spent_usd"], "1.4", "nothing is given twice");
    tenant.refused(&json!({ "amount": "0.1" }));
}

#[test]
fn the_settings_of_the_environment_count_and_a_reload_changes_them() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "[budget]\nservice_day_usd = \"0.5\"\nexhausted_status = 429\n").expect("written");
    let path = file.path().to_str().expect("a path").to_owned();
    let server = Setup::testbed().env("AGENT_SESSION_BUDGET_USD", "0.2").env("AGENTD_CONFIG", &path).start();
    let tenant = tenant(&server);
    let told = tenant.refused(&json!({ "amount": "0.3", "session": "s" }));
    assert!(told.contains("the session's budget"), "{told}");
    tenant.pay("0.5");
    let told = tenant.refused(&json!({ "amount": "0.1" }));
    assert!(told.contains("the service's budget for a day"), "{told}");
    std::fs::write(&file, "[budget]\nservice_day_usd = \"off\"\nwindow = \"calendar\"\nzone = \"Asia/Tokyo\"\n")
        .expect("written");
    let reloaded = server.admin().post("/admin/reload", &json!({})).expect(200);
    let changed = ["budget.exhausted_status", "budget.service_day_usd", "budget.window", "budget.zone"];
    assert_eq!(reloaded["changed"], json!(changed));
    tenant.pay("0.1");
    let service = server.admin().get("/admin/budget").expect(200);
    assert_eq!((&service["window"], &service["zone"]), (&json!("calendar"), &json!("Asia/Tokyo")));
    assert_eq!((&service["day"]["limit_usd"], &service["session_usd"]), (&Value::Null, &json!("0.2")));
    for wrong in ["service_day_usd = \"-1\"", "zone = \"Middle/Earth\"", "exhausted_status = 200", "window = \"day\""] {
        std::fs::write(&file, format!("[budget]\n{wrong}\n")).expect("written");
        server.admin().post("/admin/reload", &json!({})).problem(422, "configuration_invalid");
    }
}

#[test]
fn alerts_are_shown_logged_and_counted() {
    let server = Server::testbed();
    let tenant = tenant(&server);
    let metric = |name: &str| {
        let metrics = server.anyone().get("/metrics");
        let line = metrics
            .expect_text(200)
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("no {name}"))
            .to_owned();
        line.rsplit(' ').next().expect("a value").to_owned()
    };
    let alerts = "agentd_budget_alerts_total{percent=\"80\",scope=\"tenant_day\"}";
    assert_eq!(metric(alerts), "0", "it is there from the start");
    tenant.set(&json!({ "day_usd": "1" }));
    tenant.pay("0.85");
    tenant.refused(&json!({ "amount": "0.2" }));
    server.wait_for_log("how much is spent", |line| line["scope"] == "tenant_day" && line["level"] == "WARN");
    let percents = eventually("both alerts", || {
        let service = server.admin().get("/admin/budget").expect(200);
        let alerts = service["alerts"].as_array().expect("a list").clone();
        assert!(alerts.iter().all(|alert| alert["tenant_id"] == tenant.id.as_str() && alert["scope"] == "tenant_day"));
        Some(alerts.iter().map(|alert| alert["percent"].clone()).collect::<Vec<_>>()).filter(|them| them.len() == 2)
    });
    assert_eq!(percents, [json!(100), json!(80)]);
    assert_eq!(metric(alerts), "1");
    assert_eq!(metric("agentd_budget_refusals_total{scope=\"tenant_day\"}"), "1");
    assert_eq!(metric("agentd_spend_usd_total{model=\"test\"}"), "0.85");
}

#[test]
fn a_key_that_takes_the_place_of_another_gets_its_budget() {
    let mut server = Server::testbed();
    let tenant = tenant(&server);
    let path = |key: &str, what: &str| format!("/admin/tenants/{}/keys/{key}/{what}", tenant.id);
    server.admin().put(&path(&tenant.key, "budget"), &json!({ "total_usd": "0.5" })).expect(200);
    let made = server.admin().post(&path(&tenant.key, "rotate"), &json!({ "grace_seconds": 3600 })).expect(201);
    let new = made["key_id"].as_str().expect("an id").to_owned();
    let too_much = json!({ "amount": "0.6", "cost": "0.6", "model": "a", "key": new });
    tenant.refused(&too_much);
    server.restart();
    assert_eq!(server.admin().get(&path(&new, "budget")).expect(200)["total_usd"], "0.5");
    tenant.refused(&too_much);
}

#[test]
fn a_report_says_what_was_spent_by_whatever_is_asked() {
    let mut server = Server::testbed();
    let (tenant, other) = (tenant(&server), tenant(&server));
    let pay = |model: &str, cost: &str| {
        let input = json!({ "amount": cost, "cost": cost, "model": model, "session": "=s", "key": tenant.key });
        job_id(&tenant.spend(&input))
    };
    let (first, _) = (pay("a", "0.1"), pay("b", "0.2"));
    pay("b", "0.3");
    other.pay("0.4");
    let own = |query: &str| tenant.client.get(&format!("/v1/usage/spend{query}")).expect(200);
    let by_model = own("?by=model");
    let costs: Vec<_> = by_model["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| (&it["model"], &it["calls"], &it["cost_usd"]))
        .collect();
    assert_eq!(costs, [(&json!("a"), &json!(1), &json!("0.1")), (&json!("b"), &json!(2), &json!("0.5"))]);
    assert_eq!((&by_model["total"]["input_tokens"], &by_model["total"]["cost_usd"]), (&json!(30), &json!("0.6")));
    let one = |query: &str, name: &str| own(query)["data"][0][name].clone();
    assert_eq!(one("?by=purpose", "purpose"), "test.spend");
    assert_eq!(one("?by=key", "key_id"), tenant.key.as_str());
    assert_eq!(one("?by=session", "session"), "=s");
    assert_eq!(one("?by=job,model", "job_id"), first.as_str());
    assert_eq!(one("?by=tool", "tool"), "test.spend");
    assert_eq!(one("?by=tenant", "tenant_id"), tenant.id.as_str());
    assert_eq!(one("", "day"), own("")["to"]);
    let all = server.admin().get("/admin/usage/spend?by=tenant").expect(200);
    assert_eq!((all["data"].as_array().map(Vec::len), &all["total"]["cost_usd"]), (Some(2), &json!("1")));
    let path = format!("/admin/tenants/{}/usage/spend", other.id);
    assert_eq!(server.admin().get(&path).expect(200)["total"]["cost_usd"], "0.4");
    server.restart();
    assert_eq!(tenant.client.get("/v1/usage/spend?by=model").expect(200), by_model);
    let csv = tenant.client.get("/v1/usage/spend?by=session,model&format=csv");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    insta::assert_snapshot!(csv.expect_text(200), @r"
    session,model,calls,input_tokens,cached_tokens,output_tokens,reasoning_tokens,cost_usd
    '=s,a,1,10,4,5,2,0.1
    '=s,b,2,20,8,10,4,0.5
    ");
    for (query, pointer) in [
        ("by=days", "?by"),
        ("by=day,day", "?by"),
        ("format=xml", "?format"),
        ("from=yesterday", "?from"),
        ("from=2030-01-02&to=2030-01-01", "?from"),
        ("from=2020-01-01&to=2025-01-01", "?from"),
        ("model=a", "?model"),
    ] {
        tenant.client.get(&format!("/v1/usage/spend?{query}")).fault("invalid_request", pointer);
    }
    server.admin().get("/admin/tenants/x/usage/spend").problem(404, "not_found");
}

#[test]
fn a_kill_settles_in_full_what_was_held() {
    let mut server = Server::testbed();
    let tenant = tenant(&server);
    let gate = server.gate("gate");
    let input = json!({ "amount": "0.5", "cost": "0.1", "gate": gate.path() });
    let job = tenant.client.submit("test.spend", &input);
    eventually("it is held", || (tenant.standing("", "tenant_day")["reserved_usd"] == "0.5").then_some(()));
    server.kill();
    gate.open();
    server.start_again(|setup| setup);
    tenant.client.finished(&job);
    assert_eq!(tenant.standing("", "tenant_day")["spent_usd"], "0.6", "the lost attempt in full, and the next one");
}

#[test]
fn the_budget_of_a_deleted_tenant_is_gone_and_what_it_spent_stays_spent() {
    let server = Server::testbed();
    let (gone, stays) = (tenant(&server), tenant(&server));
    gone.set(&json!({ "day_usd": "5" }));
    gone.pay("0.5");
    assert_eq!(server.admin().delete(&format!("/admin/tenants/{}", gone.id)).status, 204);
    eventually("its calls are cleared away", || {
        let all = server.admin().get("/admin/usage/spend").expect(200);
        (all["total"]["cost_usd"] == "0").then_some(())
    });
    assert_eq!(stays.standing("", "service_day")["spent_usd"], "0.5");
}

#[test]
fn a_job_has_a_budget_of_its_own_and_shows_what_it_has_cost() {
    let mut server = Server::testbed();
    let tenant = tenant(&server);
    let input = json!({ "amount": "0.25", "cost": "0.125" });
    let body = json!({ "tool": "test.spend", "input": input, "budget_usd": "0.5", "session_id": "s" });
    let job = tenant.client.post("/v1/jobs?wait=30", &body).expect(200);
    let shown = ["cost_usd", "budget_usd", "session_id"].map(|name| job[name].clone());
    assert_eq!(shown, ["0.125", "0.5", "s"].map(|it| json!(it)), "{job}");
    assert_eq!(tenant.client.job(&job_id(&job)), job);
    assert_eq!(tenant.standing("?session=s", "session")["spent_usd"], "0.125");
    assert_eq!(tenant.standing("", "key")["spent_usd"], "0.125", "of the key that it was submitted with");
    let more = json!({ "tool": "test.spend", "input": { "amount": "0.6" }, "budget_usd": "0.5" });
    let refused = tenant.client.run(&more);
    let told = refused["error"]["message"].as_str().expect("a message");
    assert!(told.starts_with("the job's budget (job) cannot pay: limit 0.5 USD"), "{told}");
    server.restart();
    assert_eq!(tenant.client.job(&job_id(&job)), job);
    for (field, wrong) in [("budget_usd", json!("-1")), ("budget_usd", json!(1)), ("session_id", json!(""))] {
        tenant
            .client
            .post("/v1/jobs", &json!({ "tool": "echo", field: wrong }))
            .fault("invalid_request", &format!("/{field}"));
    }
}

#[test]
fn a_job_waits_for_money_without_using_up_an_attempt() {
    let mut server = Server::testbed();
    let tenant = tenant(&server);
    tenant.set(&json!({ "day_usd": "1" }));
    tenant.pay("1");
    let input = json!({ "amount": "0.5", "cost": "0.5", "pause": true });
    let body = json!({ "tool": "test.spend", "input": input, "max_attempts": 1 });
    let [first, second, third] = [(); 3].map(|()| tenant.client.submit_body(&body));
    for job in [&first, &second, &third] {
        tenant.client.wait_for(job, "job.waiting");
        let job = tenant.client.job(job);
        assert_eq!((&job["status"], &job["attempt"]), (&json!("waiting"), &json!(0)), "{job}");
        assert_eq!(job["error"]["code"], "budget_exceeded");
    }
    let waiting = tenant.client.events(&first).into_iter().find(|event| event["type"] == "job.waiting");
    assert_eq!(waiting.expect("the event")["data"]["for"], "budget");
    // More money wakes them at once; what it is not enough for waits again.
    tenant.set(&json!({ "day_usd": "1.5" }));
    let done = eventually("one is done", || {
        [&first, &second, &third].into_iter().find(|job| tenant.client.job(job)["status"] == "succeeded")
    });
    let left: Vec<_> = [&first, &second, &third].into_iter().filter(|job| *job != done).collect();
    // Also after a restart.
    server.restart();
    for job in &left {
        eventually("it waits", || (tenant.client.job(job)["status"] == "waiting").then_some(()));
    }
    tenant.set(&json!({}));
    for job in left {
        let job = tenant.client.finished(job);
        assert_eq!(
            (&job["status"], &job["attempt"], &job["cost_usd"]),
            (&json!("succeeded"), &json!(1), &json!("0.5"))
        );
    }
}

#[test]
fn a_job_is_told_which_budget_it_has_spent() {
    let server = Server::testbed();
    let tenant = tenant(&server);
    tenant.set(&json!({ "day_usd": "1" }));
    let gate = server.gate("gate");
    let input = json!({ "amount": "0.9", "cost": "0.9" });
    let steps =
        json!([{ "tool": "test.spend", "input": input }, { "tool": "test.gate", "input": { "gate": gate.path() } }]);
    let job = tenant.client.submit("test.steps", &json!({ "steps": steps }));
    tenant.client.wait_for(&job, "budget.reached");
    gate.open();
    assert_eq!(tenant.client.finished(&job)["status"], "succeeded");
    let events = tenant.client.events(&job);
    let reached = events.iter().find(|event| event["type"] == "budget.reached").expect("the event");
    let data = json!({ "scope": "tenant_day", "percent": 80, "limit_usd": "1", "spent_usd": "0.9" });
    assert_eq!(reached["data"], data);
    let numbers: Vec<_> = events.iter().map(|event| event["id"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "without a gap");
}
