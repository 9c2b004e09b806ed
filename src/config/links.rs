//! Variables that Kubernetes and Docker set in each container for every service
//! beside it. Those for a service whose name begins with `agentd` look like ours.

/// Whether a variable tells where a service is: `AGENTD_SERVICE_HOST`,
/// `AGENTD_SERVICE_PORT_HTTP`, `AGENTD_PORT=tcp://10.0.0.1:8000`,
/// `AGENTD_PORT_8000_TCP_ADDR`, and Docker's `AGENTD_NAME=/web/agentd` and
/// `AGENTD_ENV_PATH`; the service may have a longer name too.
pub(super) fn is_of_a_service(name: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_number = || value.parse::<u16>().is_ok();
    if name.ends_with("_PORT") && is_address {
        return true;
    }
    if name.ends_with("_SERVICE_HOST") {
        return true;
    }
    if let Some((_, port)) = name.rsplit_once("_SERVICE_PORT") {
        return (port.is_empty() || port.starts_with('_')) && is_number();
    }
    if let Some((_, rest)) = name.split_once("_PORT_") {
        let mut parts = rest.split('_');
        let port = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
        let protocol = parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part));
        let more = parts.next().is_none_or(|part| ["PROTO", "PORT", "ADDR", "START", "END"].contains(&part));
        return port && protocol && more;
    }
    (name.ends_with("_NAME") && value.starts_with('/') && value[1..].contains('/')) || name.starts_with("AGENTD_ENV_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_service_is_known_by_its_form() {
        for (name, value) in [
            ("AGENTD_SERVICE_HOST", "10.96.0.7"),
            ("AGENTD_SERVICE_PORT", "8000"),
            ("AGENTD_SERVICE_PORT_HTTP", "8000"),
            ("AGENTD_PORT", "tcp://10.96.0.7:8000"),
            ("AGENTD_PORT", "udp://[fd00::7]:53"),
            ("AGENTD_PORT_8000_TCP", "tcp://10.96.0.7:8000"),
            ("AGENTD_PORT_8000_TCP_PROTO", "tcp"),
            ("AGENTD_PORT_8000_TCP_PORT", "8000"),
            ("AGENTD_PORT_8000_TCP_ADDR", "10.96.0.7"),
            ("AGENTD_PORT_53_UDP_ADDR", "10.96.0.7"),
            ("AGENTD_SERVER_SERVICE_HOST", "10.96.0.7"),
            ("AGENTD_SERVER_PORT", "tcp://10.96.0.7:8000"),
            ("AGENTD_DATA_PORT_5432_TCP", "tcp://10.96.0.8:5432"),
            ("AGENTD_NAME", "/web/agentd"),
            ("AGENTD_ENV_PATH", "/usr/bin"),
        ] {
            assert!(is_of_a_service(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("AGENTD_PORT", "8000"),
            ("AGENTD_SERVER_LISTEN", "127.0.0.1:8000"),
            ("AGENTD_SERVICE_PORTS", "8000"),
            ("AGENTD_SERVICE_PORT", "eight"),
            ("AGENTD_PORT_HTTP", "8000"),
            ("AGENTD_DATADIR", "/data"),
            ("AGENTD_NAME", "agentd"),
        ] {
            assert!(!is_of_a_service(name, value), "{name}={value}");
        }
    }
}
