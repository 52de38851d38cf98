// SPDX-License-Identifier: Apache-2.0
//! A mail server, which speaks first, and an AMQP broker.

use std::fs;

use maille_tests_suites::{Figures, Said, Server, Side, Stage, certificate, scaled};

/// Mails that one round sends.
const MAILS: u32 = 30;

#[tokio::test]
async fn smtp() {
    let stage = Stage::start("smtp", |dir, _| {
        certificate(dir)?;
        for own in ["spool", "log"] {
            fs::create_dir_all(dir.join(own))?;
        }
        let dir = dir.display();
        let config = format!(
            "primary_hostname = mail.test\nspool_directory = {dir}/spool\nlog_file_path = {dir}/log/%slog\n\
             pid_file_path = {dir}/exim.pid\ntls_advertise_hosts = *\ntls_certificate = {dir}/cert.pem\n\
             tls_privatekey = {dir}/key.pem\nacl_smtp_rcpt = accept\nacl_smtp_data = accept\nhost_lookup =\n\
             queue_only = true\nrfc1413_query_timeout = 0s\nsmtp_accept_max = 100\nkeep_environment =\n"
        );
        fs::write(format!("{dir}/exim.conf"), config)?;
        Ok(vec![Server {
            name: "mail",
            ports: &[2525],
            declared: None,
            serves: "curl -sS smtp://mail:2525 -X NOOP",
            command: Server::unprivileged(
                &format!("exim4 -C {dir}/exim.conf -bdf -oX 2525"),
                "Debian-exim",
            ),
        }])
    });
    let stage = stage.await.unwrap();
    let mut figures = Figures::default();
    let swaks = "swaks --server mail:2525 --from a@one.test --to b@two.test --body";
    // swaks would need another package for TLS, and takes its time over much.
    let curl = "curl -sSv smtp://mail:2525 --mail-from a@one.test --mail-rcpt b@two.test";
    for line in [
        format!("{swaks} water"),
        format!("{swaks} water --pipeline"),
        format!("echo water > mail && {curl} --ssl-reqd -k -T mail 2>&1"),
        // Larger than every window on the way.
        format!("seq 1 900000 | sed 's/$/ mails/' > large && {curl} -T large 2>&1"),
    ] {
        for said in stage.both(&line).await.unwrap() {
            assert!(
                said.good().unwrap().contains("250 OK id="),
                "{}",
                said.text()
            );
        }
    }
    let line = format!(
        "for i in $(seq 1 {MAILS}); do echo mail $i; done > mail && for i in $(seq 1 {MAILS}); do \
         curl -sS smtp://mail:2525 --mail-from a@one.test --mail-rcpt b@two.test -T mail || exit 1; done"
    );
    let [plain, meshed] = stage.both(&line).await.unwrap();
    let rate = |said: &Said| {
        said.good().unwrap();
        f64::from(MAILS) / said.took.as_secs_f64()
    };
    figures.add(
        "smtp, a connection each",
        "mails/s",
        rate(&plain),
        rate(&meshed),
    );
    stage
        .greets("smtp, until it greets", "mail:2525", &mut figures)
        .await
        .unwrap();
    for side in Side::BOTH {
        let queue = fs::read_dir(stage.dir(side).join("spool/input"))
            .unwrap()
            .flatten();
        let bodies = queue.filter(|entry| entry.file_name().to_string_lossy().ends_with("-D"));
        let sizes: Vec<u64> = bodies.map(|body| body.metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 4 + MAILS as usize, "{side:?}");
        assert!(
            sizes.iter().any(|size| *size > 10_000_000),
            "{side:?}: {sizes:?}"
        );
    }
    figures.show();
    stage.end().await.unwrap();
}

#[tokio::test]
async fn amqp() {
    let stage = Stage::start("amqp", |dir, _| {
        let config = "loopback_users = none\nlisteners.tcp.default = 5672\nlog.console = true\n";
        fs::write(dir.join("rabbitmq.conf"), config)?;
        let dir = dir.display();
        Ok(vec![Server {
            name: "broker",
            ports: &[5672],
            declared: None,
            serves: "amqp-declare-queue -s broker -q ready",
            command: format!(
                "export HOME={dir} RABBITMQ_NODENAME=suite@localhost RABBITMQ_MNESIA_BASE={dir}/mnesia RABBITMQ_LOG_BASE={dir}/log \
                 RABBITMQ_CONFIG_FILE={dir}/rabbitmq RABBITMQ_ENABLED_PLUGINS_FILE={dir}/plugins RABBITMQ_CONF_ENV_FILE=/dev/null \
                 RABBITMQ_PID_FILE={dir}/pid; exec /usr/lib/rabbitmq/bin/rabbitmq-server"
            ),
        }])
    });
    let stage = stage.await.unwrap();
    let mut figures = Figures::default();
    // The distribution's own client.
    let line = "set -e; amqp-declare-queue -s broker -q water; \
                for i in 1 2 3; do amqp-publish -s broker -r water -b mail-$i; done; \
                for i in 1 2 3; do amqp-get -s broker -q water; echo; done; \
                head -c 3000000 /dev/urandom > large; amqp-publish -s broker -r water < large; \
                amqp-get -s broker -q water > back; cmp large back";
    for said in stage.both(line).await.unwrap() {
        let out = said.good().unwrap();
        assert!(out.ends_with("mail-1\nmail-2\nmail-3\n"), "{}", said.text());
    }
    for (what, messages, bytes) in [
        (
            "amqp, confirmed messages of 100 bytes",
            scaled(10_000, 2_000),
            100,
        ),
        (
            "amqp, confirmed messages of 100 KB",
            scaled(400, 100),
            100_000,
        ),
    ] {
        let line = format!(
            "{} amqp://guest:guest@broker:5672/ {messages} {bytes}",
            stage.judge("amqp")
        );
        let [plain, meshed] = stage.both(&line).await.unwrap();
        let rate = |said: &Said| said.number("").unwrap();
        figures.add(what, "messages/s", rate(&plain), rate(&meshed));
    }
    figures.show();
    stage.end().await.unwrap();
}
