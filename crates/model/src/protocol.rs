// SPDX-License-Identifier: Apache-2.0
//! What a port speaks, as declared by `appProtocol` (KEP-1422) or, as the field's meshes do it, by the port's name.

/// What a port was declared to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Nobody said: the first bytes decide.
    #[default]
    Undeclared,
    /// HTTP/1.0 or 1.1 in clear text.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC, that is HTTP/2 with prior knowledge.
    Grpc,
    /// TLS by the application itself: passed through.
    Tls,
    /// Any bytes, from either side first.
    Tcp,
}

impl Protocol {
    /// Reads a Service port's `appProtocol`, or its name where there is none (`http`, `http-web`, `tcp-db`, ...).
    ///
    /// An unknown `appProtocol` declares nothing: KEP-1422 leaves unknown values to others.
    pub fn declared(app_protocol: Option<&str>, port_name: Option<&str>) -> Self {
        if let Some(value) = app_protocol {
            return Self::keyword(&value.to_ascii_lowercase());
        }
        let name = port_name.unwrap_or_default();
        let prefix = name.split('-').next().unwrap_or_default();
        // The one word that has a hyphen in it.
        let web = name == "grpc-web" || name.starts_with("grpc-web-");
        Self::keyword(if web { "grpc-web" } else { prefix })
    }

    fn keyword(word: &str) -> Self {
        match word {
            "http" | "http1" | "grpc-web" | "ws" | "kubernetes.io/ws" => Self::Http1,
            "http2" | "h2c" | "kubernetes.io/h2c" => Self::Http2,
            "grpc" => Self::Grpc,
            "https" | "tls" | "ssl" | "wss" | "kubernetes.io/wss" | "amqps" | "ldaps" | "imaps"
            | "pop3s" | "smtps" | "ftps" => Self::Tls,
            // What begins in plain text on its own port, with TLS later or never, and whoever speaks first.
            "tcp" | "mongo" | "mongodb" | "mysql" | "mariadb" | "redis" | "postgres"
            | "postgresql" | "smtp" | "submission" | "imap" | "pop3" | "ftp" | "ssh" | "amqp"
            | "mqtt" | "nats" | "kafka" | "ldap" | "memcache" | "memcached" | "cassandra"
            | "zookeeper" => Self::Tcp,
            _ => Self::Undeclared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_wins_over_the_name() {
        assert_eq!(Protocol::declared(Some("tcp"), Some("http")), Protocol::Tcp);
        assert_eq!(
            Protocol::declared(Some("example.com/own"), Some("http")),
            Protocol::Undeclared
        );
        assert_eq!(Protocol::declared(None, Some("http-web")), Protocol::Http1);
        assert_eq!(
            Protocol::declared(None, Some("httpx")),
            Protocol::Undeclared
        );
        assert_eq!(Protocol::declared(None, None), Protocol::Undeclared);
    }

    #[test]
    fn words_that_people_use() {
        for (word, protocol) in [
            ("http", Protocol::Http1),
            ("HTTP", Protocol::Http1),
            ("kubernetes.io/ws", Protocol::Http1),
            ("grpc-web", Protocol::Http1),
            ("http2", Protocol::Http2),
            ("h2c", Protocol::Http2),
            ("kubernetes.io/h2c", Protocol::Http2),
            ("grpc", Protocol::Grpc),
            ("https", Protocol::Tls),
            ("tls", Protocol::Tls),
            ("kubernetes.io/wss", Protocol::Tls),
            ("tcp", Protocol::Tcp),
            ("mysql", Protocol::Tcp),
            ("redis", Protocol::Tcp),
            ("mongo", Protocol::Tcp),
            ("smtp", Protocol::Tcp),
            ("amqp", Protocol::Tcp),
            ("example.com/http", Protocol::Undeclared),
            ("", Protocol::Undeclared),
        ] {
            assert_eq!(Protocol::declared(Some(word), None), protocol, "{word}");
        }
        for (name, protocol) in [
            ("grpc-web", Protocol::Http1),
            ("grpc-web-a", Protocol::Http1),
            ("grpc-websocket", Protocol::Grpc),
            ("mysql-primary", Protocol::Tcp),
            ("https-a", Protocol::Tls),
            ("web-http", Protocol::Undeclared),
        ] {
            assert_eq!(Protocol::declared(None, Some(name)), protocol, "{name}");
        }
    }
}
