//! `/v1/files`.

use serde_json::{Value, json};

use super::{id, send_form, upload};
use crate::support::{Server, Setup, eventually};

#[test]
fn a_file_is_uploaded_listed_fetched_and_deleted() {
    let mut server = Server::real();
    let client = server.client();
    // Longer than a piece, and no text.
    let content: Vec<u8> = (0..700_000_u32).map(|place| (place % 251) as u8).collect();
    let made = upload(&client, "a \"b\".bin", &content, "user_data");
    assert_eq!((made["object"].as_str(), made["bytes"].as_u64()), (Some("file"), Some(700_000)));
    assert_eq!((made["purpose"].as_str(), made["status"].as_str()), (Some("user_data"), Some("processed")));
    let path = format!("/v1/files/{}", id(&made));
    assert_eq!(client.get(&path).expect(200), made);
    assert!(client.bytes(&format!("{path}/content")) == content);
    server.restart();
    assert!(client.bytes(&format!("{path}/content")) == content, "it is kept");
    assert_eq!(client.get("/v1/files").expect(200)["data"], json!([made]));
    assert_eq!(client.delete(&path).expect(200), json!({ "id": id(&made), "object": "file", "deleted": true }));
    for path in [path.clone(), format!("{path}/content")] {
        client.get(&path).openai_error(404, "not_found", None);
    }
    client.delete(&path).openai_error(404, "not_found", None);
    assert_eq!(client.get("/v1/files").expect(200)["data"], json!([]));
}

#[test]
fn content_is_handed_out_as_nothing_that_a_browser_shows() {
    let server = Server::real();
    let client = server.client();
    let made = upload(&client, "<x>.html", b"<script>alert(1)</script>", "user_data");
    let answer = client.get(&format!("/v1/files/{}/content", id(&made)));
    answer.expect_text(200);
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"_x_.html\""));
}

#[test]
fn files_are_ones_own() {
    let server = Server::real();
    let (one, other) = (server.client(), server.tenant("other"));
    let other = server.anyone().with_key(&server.key(&other));
    let made = upload(&one, "a", b"secret", "batch");
    let path = format!("/v1/files/{}", id(&made));
    other.get(&path).openai_error(404, "not_found", None);
    other.get(&format!("{path}/content")).openai_error(404, "not_found", None);
    other.delete(&path).openai_error(404, "not_found", None);
    assert_eq!(other.get("/v1/files").expect(200)["data"], json!([]));
    let batch = json!({ "input_file_id": id(&made), "endpoint": "/v1/embeddings", "completion_window": "24h" });
    other.post("/v1/batches", &batch).openai_error(404, "not_found", None);
    let tenant = server.tenant("third");
    let reader = server.key_with(&tenant, &json!({ "name": "k", "scopes": ["jobs:read"] }));
    server.anyone().with_key(&reader).get("/v1/files").openai_error(403, "forbidden", None);
}

#[test]
fn a_list_comes_in_pages() {
    let server = Server::real();
    let client = server.client();
    let made: Vec<_> = (0..3).map(|n| upload(&client, &format!("{n}"), b"x", "batch")).collect();
    upload(&client, "other", b"x", "vision");
    let page = |query: &str| client.get(&format!("/v1/files?purpose=batch&limit=2{query}")).expect(200);
    let first = page("");
    assert_eq!((&first["data"], &first["has_more"]), (&json!([made[2], made[1]]), &json!(true)));
    assert_eq!((&first["first_id"], &first["last_id"]), (&made[2]["id"], &made[1]["id"]));
    let second = page(&format!("&after={}", id(&made[1])));
    assert_eq!((&second["data"], &second["has_more"]), (&json!([made[0]]), &json!(false)));
    assert_eq!(page("&order=asc")["data"], json!([made[0], made[1]]));
    for (query, param) in [("limit=0", "limit"), ("limit=10001", "limit"), ("after=x", "after"), ("order=up", "order")]
    {
        client.get(&format!("/v1/files?{query}")).openai_error(400, "invalid_request", Some(param));
    }
    assert_eq!(page("&x=1")["data"], first["data"], "what others understand is ignored");
}

#[test]
fn what_is_wrong_with_an_upload_is_said() {
    let server = Setup::real()
        .env("AGENTD_MODELS_FILE_BYTES", "1KiB")
        .env("AGENTD_MODELS_FILES_BYTES_PER_TENANT", "1500")
        .start();
    let client = server.client();
    let send = |file: Option<(&str, &[u8])>, fields: &[(&str, &str)]| send_form(&client, "/v1/files", file, fields);
    let file = Some(("a", &b"x"[..]));
    for (answer, param) in [
        (send(None, &[("purpose", "batch")]), "file"),
        (send(file, &[]), "purpose"),
        (send(file, &[("purpose", "fun")]), "purpose"),
        (send(file, &[("purpose", "batch_output")]), "purpose"),
        (send(None, &[("purpose", "batch"), ("file", "no file")]), "file"),
        (send(file, &[("purpose", "batch"), ("expires_after[seconds]", "9")]), "expires_after.seconds"),
        (send(file, &[("purpose", "batch"), ("expires_after[anchor]", "now")]), "expires_after.anchor"),
    ] {
        answer.openai_error(400, "invalid_request", Some(param));
    }
    client.post("/v1/files", &json!({})).openai_error(415, "unsupported_media_type", None);
    let cut = b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc";
    let form = [("Content-Type", "multipart/form-data; boundary=x")];
    client.send("POST", "/v1/files", &form, Some(cut)).openai_error(400, "incomplete_body", None);
    send(Some(("a", &[0; 1025])), &[("purpose", "batch")]).openai_error(413, "payload_too_large", None);
    send(Some(("a", &[0; 1024])), &[("purpose", "batch")]).expect(200);
    send(Some(("a", &[0; 1024])), &[("purpose", "batch")]).openai_error(413, "files_full", None);
    assert_eq!(client.get("/v1/files").expect(200)["data"].as_array().map(Vec::len), Some(1));
    let expires = [("purpose", "batch"), ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600")];
    let made = send(file, &expires).expect(200);
    let span = |made: &Value| made["expires_at"].as_i64().zip(made["created_at"].as_i64()).map(|(end, at)| end - at);
    assert_eq!(span(&made), Some(3600));
}

#[test]
fn files_go_with_their_tenant() {
    let mut server = Server::real();
    let tenant = server.tenant("a");
    let client = server.anyone().with_key(&server.key(&tenant));
    let made = upload(&client, "a.jsonl", &vec![b'x'; 600_000], "batch");
    let batch = json!({ "input_file_id": id(&made), "endpoint": "/v1/embeddings", "completion_window": "24h" });
    client.post("/v1/batches", &batch).expect(200);
    server.admin().delete(&format!("/admin/tenants/{tenant}"));
    server.stop();
    server.start_again(|setup| setup);
    // What is deleted has to be seen in the file: nobody can ask for it any more.
    let database = server.data().join("agentd.db");
    let rows = |table: &str| {
        let connection = rusqlite::Connection::open(&database).expect("opens");
        connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
            .expect("a number")
    };
    eventually("nothing is left of it", || {
        ["batches", "batch_lines", "files", "file_chunks"].iter().all(|table| rows(table) == 0).then_some(())
    });
}
