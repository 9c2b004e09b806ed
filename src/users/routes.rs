//! `/admin/users`

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::password::Password;
use super::types::{UserName, UserRow};
use super::{Changed, Update, Users, sql};
use crate::auth::{Admin, Role};
use crate::clock::Timestamp;
use crate::http::openapi::Answer;
use crate::http::page::{Page, PageRequest};
use crate::http::query::{NoQuery, Query};
use crate::http::{AdminJson, Problem, Routes};

/// The routes of this file.
pub(super) fn routes() -> Routes {
    let user = || Answer::json::<UserView>("The user, without the password.");
    Routes::of("Users", "People who administer the service, for the administrator.")
        .with(Method::POST, "/admin/users", create, |it| {
            it.named("createUser", "Create a user")
                .about("No `Idempotency-Key` is taken: the name is one, and nothing is kept of the body.")
                .example("viewer", json!({ "name": "alice", "password": "correct horse battery", "role": "viewer" }))
                .answer(StatusCode::CREATED, user().header("Location"))
                .problems(StatusCode::CONFLICT, &["name_taken"])
                .problems(StatusCode::TOO_MANY_REQUESTS, &["too_many_logins"])
        })
        .with(Method::GET, "/admin/users", list, |it| {
            it.named("listUsers", "List the users")
                .pages()
                .answer(StatusCode::OK, Answer::json::<Page<UserView>>("Users, newest first."))
        })
        .with(Method::PATCH, "/admin/users/{name}", update, |it| {
            it.named("updateUser", "Give a user another role or password")
                .about("Signs the user out everywhere.")
                .example("role", json!({ "role": "operator" }))
                .answer(StatusCode::OK, user())
                .problems(StatusCode::CONFLICT, &["last_admin"])
                .problems(StatusCode::TOO_MANY_REQUESTS, &["too_many_logins"])
        })
        .with(Method::DELETE, "/admin/users/{name}", delete, |it| {
            it.named("deleteUser", "Delete a user")
                .about("Signs the user out everywhere. The last admin stays.")
                .answer(StatusCode::NO_CONTENT, Answer::empty("They are gone."))
                .problems(StatusCode::CONFLICT, &["last_admin"])
        })
}

type Service = web::Data<Users>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CreateUser")]
struct CreateBody {
    /// What they sign in with, such as `alice` or `alice@example.com`.
    #[schemars(length(min = 1, max = 64))]
    name: String,
    /// At least 12 characters.
    password: Password,
    role: Role,
}

/// What is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UpdateUser")]
struct UpdateBody {
    role: Option<Role>,
    /// At least 12 characters.
    password: Option<Password>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "User")]
struct UserView {
    /// What they sign in with.
    name: String,
    role: Role,
    created_at: Timestamp,
    updated_at: Timestamp,
    password_changed_at: Timestamp,
    last_login_at: Option<Timestamp>,
}

impl From<UserRow> for UserView {
    fn from(row: UserRow) -> Self {
        Self {
            name: row.name,
            role: row.role,
            created_at: row.created_at,
            updated_at: row.updated_at,
            password_changed_at: row.password_changed_at,
            last_login_at: row.last_login_at,
        }
    }
}

async fn create(_: Admin, users: Service, _: NoQuery, body: AdminJson<CreateBody>) -> Result<HttpResponse, Problem> {
    let CreateBody { name, password, role } = body.value;
    let name = UserName::read(&name).map_err(|fault| Problem::invalid("/name", fault))?;
    password.check(name.as_str()).map_err(|fault| Problem::invalid("/password", fault))?;
    let taken = Problem::conflict("name_taken", format!("there is a user {name} already"));
    let row = users.create(name, role, password).await?.ok_or(taken)?;
    let location = ("Location", format!("/admin/users/{}", row.name));
    Ok(HttpResponse::Created().insert_header(location).json(UserView::from(row)))
}

async fn list(_: Admin, users: Service, request: HttpRequest) -> Result<web::Json<Page<UserView>>, Problem> {
    let mut query = Query::of(&request)?;
    let page = PageRequest::take(&mut query)?;
    query.finish(&["limit", "cursor"])?;
    let rows = users.db.read(move |tx| sql::list(tx, page.after, page.limit + 1)).await?;
    Ok(web::Json(Page::from_one_more(rows, page.limit, |row| row.no).map(UserView::from)))
}

async fn update(
    _: Admin,
    users: Service,
    name: web::Path<String>,
    _: NoQuery,
    body: AdminJson<UpdateBody>,
) -> Result<web::Json<UserView>, Problem> {
    let UpdateBody { role, password } = body.value;
    let password = match password {
        Some(password) => {
            password.check(&name).map_err(|fault| Problem::invalid("/password", fault))?;
            Some(users.hash(password).await?)
        }
        None => None,
    };
    let changed = users.update(name.to_lowercase(), Update { role, password }).await?;
    done(changed).map(|row| web::Json(row.into()))
}

async fn delete(_: Admin, users: Service, name: web::Path<String>, _: NoQuery) -> Result<HttpResponse, Problem> {
    done(users.delete(name.to_lowercase()).await?)?;
    Ok(HttpResponse::NoContent().finish())
}

fn done(changed: Changed) -> Result<UserRow, Problem> {
    match changed {
        Changed::Done(row) => Ok(row),
        Changed::Missing => Err(Problem::not_found("user")),
        Changed::LastAdmin => {
            let detail = "this is the last user who may change everything";
            Err(Problem::conflict("last_admin", detail).with_hint("make another user an admin first"))
        }
    }
}
