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
        let prefix = port_name
            .and_then(|name| name.split('-').next())
            .unwrap_or_default();
        Self::keyword(prefix)
    }

    fn keyword(word: &str) -> Self {
        match word {
            "http" | "http1" | "kubernetes.io/ws" => Self::Http1,
            "http2" | "h2c" | "kubernetes.io/h2c" => Self::Http2,
            "grpc" => Self::Grpc,
            "https" | "tls" | "kubernetes.io/wss" => Self::Tls,
            "tcp" | "mongo" | "mysql" | "redis" | "postgres" | "postgresql" => Self::Tcp,
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
}
