//! A web page for the demo's agent to read, so that the demo needs no network.

use std::net::{SocketAddr, TcpListener};

use actix_web::{App, HttpResponse, HttpServer, web};

const PAGE: &str = include_str!("page.html");

/// Serves the page on a free port of this machine until the program ends; its
/// address.
pub(super) fn serve() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let run = move || {
        let page = || async { HttpResponse::Ok().content_type("text/html; charset=utf-8").body(PAGE) };
        let server = HttpServer::new(move || App::new().route("/page", web::get().to(page)));
        let server = server.workers(1).disable_signals().listen(listener)?;
        actix_web::rt::System::new().block_on(server.run())
    };
    std::thread::Builder::new().name("agentd-demo-page".into()).spawn(run)?;
    Ok(address)
}
