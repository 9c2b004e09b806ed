//! `agentd admin`: the people who may sign in to the running service.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::control::{Control, Service, read};
use super::failure::Failure;
use super::master_key;
use super::output::{Column, field, print_list, print_one};
use super::password::{Chosen, PasswordSource};
use crate::users::UserName;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    control: Control,
}

#[derive(Subcommand)]
enum Verb {
    /// List users, newest first
    #[command(after_help = "Example:\n  agentd admin list")]
    List {
        /// Rows at most
        #[arg(long, default_value_t = 50, value_parser = super::line::rows, allow_negative_numbers = true)]
        limit: usize,
    },
    /// Make a user; asks for the password
    #[command(after_help = "Examples:\n  agentd admin create alice\n  \
                            agentd admin create bob --role viewer --generate-password\n  \
                            agentd admin create carol --password-file - < secret")]
    Create {
        /// What they sign in with, such as alice or alice@example.com
        #[arg(value_parser = user_name)]
        name: UserName,
        /// What they may do
        #[arg(long, value_enum, default_value_t = RoleName::Admin)]
        role: RoleName,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Give a user a new password and sign them out everywhere
    #[command(after_help = "Example:\n  agentd admin reset-password alice")]
    ResetPassword {
        /// What they sign in with
        #[arg(value_parser = user_name)]
        name: UserName,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Seal the secrets in the database with a new master key
    #[command(after_help = master_key::ROTATE_HELP)]
    RotateMasterKey,
    /// Print a new master key, to be put into the configuration
    #[command(after_help = master_key::NEW_HELP)]
    NewMasterKey,
    /// With the service stopped: give up secrets whose master key is lost
    #[command(after_help = master_key::FORGET_HELP)]
    ForgetSecrets {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleName {
    /// Looks at everything, changes nothing
    Viewer,
    /// Also cancels jobs
    Operator,
    /// Everything
    Admin,
}

const FIRST: [&str; 2] = ["name", "role"];
const COLUMNS: [Column; 4] = [
    ("NAME", |row| field(row, "name")),
    ("ROLE", |row| field(row, "role")),
    ("CREATED", |row| field(row, "created_at")),
    ("LAST SIGNED IN", |row| field(row, "last_login_at")),
];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    match &arguments.verb {
        Verb::NewMasterKey => return master_key::new(),
        Verb::ForgetSecrets { yes } => return master_key::forget(&arguments.control, *yes),
        _ => {}
    }
    arguments.control.run(async |service| match &arguments.verb {
        Verb::NewMasterKey | Verb::ForgetSecrets { .. } => Ok(()),
        Verb::RotateMasterKey => master_key::rotate(&service, json).await,
        Verb::List { limit } => print_list(&service.list("/admin/users", &[], *limit).await?, json, &COLUMNS),
        Verb::Create { name, role, password } => {
            let role = match role {
                RoleName::Viewer => "viewer",
                RoleName::Operator => "operator",
                RoleName::Admin => "admin",
            };
            let chosen = password.get(name.as_str())?;
            let body = json!({ "name": name.as_str(), "role": role, "password": chosen.password.reveal() });
            let request = service.request(Method::POST, "/admin/users").json(&body);
            tell(&service.send(request).await?, &chosen, json, "made")
        }
        Verb::ResetPassword { name, password } => {
            let path = known(&service, name).await?;
            let chosen = password.get(name.as_str())?;
            let request = service.request(Method::PATCH, &path).json(&json!({ "password": chosen.password.reveal() }));
            tell(&service.send(request).await?, &chosen, json, "given a new password, and signed out everywhere")
        }
    })
}

/// The path of a user that there is, so that nobody types a password for nothing.
async fn known(service: &Service, name: &UserName) -> Result<String, Failure> {
    let listed = service.list("/admin/users", &[], usize::MAX).await?;
    let rows = listed.rows.iter().map(|row| read::<Value>(row.get())).collect::<Result<Vec<_>, _>>()?;
    if rows.iter().any(|row| row["name"] == name.as_str()) {
        return Ok(format!("/admin/users/{name}"));
    }
    Err(Failure::other(format_args!("there is no user {name}: agentd admin list shows all")))
}

/// Prints the user, or the password where it was made up: the one time that it
/// is seen.
fn tell(text: &str, chosen: &Chosen, json: bool, done: &str) -> Result<(), Failure> {
    let mut user: Value = read(text)?;
    if json {
        if chosen.generated {
            user["password"] = chosen.password.reveal().into();
        }
        return print_one(&user.to_string(), json, &FIRST);
    }
    let what = format!("{} ({}) is {done}", field(&user, "name"), field(&user, "role"));
    if chosen.generated {
        say!("{}", chosen.password.reveal());
        eprintln!("{what}; this is the password, keep it now, it is not shown again");
    } else {
        say!("{what}");
    }
    Ok(())
}

pub(super) fn user_name(text: &str) -> Result<UserName, String> {
    UserName::read(text)
}
