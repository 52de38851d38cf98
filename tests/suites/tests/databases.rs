// SPDX-License-Identifier: Apache-2.0
//! PostgreSQL, MariaDB and Redis from the distribution, each judged by its own load tool.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::PathBuf;

use maille_tests_suites::{Figures, Said, Server, Side, Stage, certificate, scaled};

/// The newest of the distribution's PostgreSQL.
fn postgres() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").unwrap().flatten();
    versions.map(|entry| entry.path()).max().unwrap()
}

#[tokio::test]
async fn postgresql() {
    let bin = postgres().join("bin");
    let stage = Stage::start("pg", |dir, _| {
        certificate(dir)?;
        let (bin, dir) = (bin.display(), dir.display());
        let make = format!(
            "[ -f {dir}/pg/PG_VERSION ] || {{ {bin}/initdb --no-sync -D {dir}/pg -U suite -A trust --locale=C -E UTF8 && \
             echo 'host all all all trust' >> {dir}/pg/pg_hba.conf; }}"
        );
        let serve = format!(
            "exec {bin}/postgres -D {dir}/pg -k {dir} -h '*' -c fsync=off -c ssl=on -c ssl_cert_file={dir}/cert.pem \
             -c ssl_key_file={dir}/key.pem"
        );
        Ok(vec![Server {
            name: "postgres",
            ports: &[5432],
            declared: None,
            serves: "psql -h postgres -U suite -c 'select 1' postgres",
            command: Server::unprivileged(&format!("sh -c \"{make}; {serve}\""), "postgres"),
        }])
    });
    let stage = stage.await.unwrap();
    let client = "-h postgres -U suite postgres";
    let mut figures = Figures::default();
    let pgbench = format!("{}/pgbench", bin.display());
    for said in stage
        .both(&format!("{pgbench} -i -q -s 2 {client}"))
        .await
        .unwrap()
    {
        said.good().unwrap();
    }
    let runs = [
        (
            "postgresql, select, 8 connections",
            "-S -M prepared -c 8",
            "",
        ),
        ("postgresql, TPC-B, 8 connections", "-c 8", ""),
        (
            "postgresql, select, its own TLS",
            "-S -c 8",
            "PGSSLMODE=require ",
        ),
        ("postgresql, a connection each", "-S -C -c 4", ""),
    ];
    for (what, options, env) in runs {
        let seconds = scaled(4, 1);
        let line = format!("{env}{pgbench} {options} -T {seconds} {client}");
        let [plain, meshed] = stage.both(&line).await.unwrap();
        for said in [&plain, &meshed] {
            assert_eq!(
                said.number("number of failed transactions:").unwrap(),
                0.0,
                "{}",
                said.text()
            );
        }
        let tps = |said: &Said| said.number("tps = ").unwrap();
        figures.add(what, "tps", tps(&plain), tps(&meshed));
    }
    copies_come_back(&stage).await;
    figures.show();
    stage.end().await.unwrap();
}

/// 20 MB by COPY in both directions; the server's sum and the client's must be the same.
async fn copies_come_back(stage: &Stage) {
    let psql = "psql -h postgres -U suite -v ON_ERROR_STOP=1 -qAt postgres";
    let line = format!(
        "{psql} -c 'create table big(n int, t text)' && seq 1 400000 | sed 's/$/\\tthe mesh is not here, only water/' > big && \
         {psql} -c '\\copy big from big' && {psql} -c '\\copy big to back' && cmp big back && {psql} -c 'select count(*) from big'"
    );
    for said in stage.both(&line).await.unwrap() {
        assert_eq!(said.good().unwrap().trim(), "400000");
    }
}

#[tokio::test]
async fn mariadb() {
    let stage = Stage::start("my", |dir, _| {
        let init =
            "CREATE USER suite@'%';\nGRANT ALL ON *.* TO suite@'%';\nCREATE DATABASE suite;\n";
        fs::write(dir.join("init.sql"), init)?;
        let dir = dir.display();
        // Whole or not at all: a server with half of its tables lets nobody in.
        let make = format!(
            "[ -d {dir}/my ] || {{ rm -rf {dir}/new; mariadb-install-db --no-defaults --datadir={dir}/new --user=root --skip-test-db \
             --skip-name-resolve --force --auth-root-authentication-method=normal && mv {dir}/new {dir}/my; }}"
        );
        let serve = format!(
            "exec mariadbd --no-defaults --datadir={dir}/my --user=root --socket={dir}/my.sock --port=3306 --bind-address='*' \
             --skip-name-resolve --init-file={dir}/init.sql --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=64M"
        );
        Ok(vec![Server {
            name: "mariadb",
            ports: &[3306],
            declared: None,
            serves: "mariadb --no-defaults -h mariadb -u suite -e 'select 1' suite",
            command: format!("{make} && {serve}"),
        }])
    });
    let stage = stage.await.unwrap();
    let mut figures = Figures::default();
    let runs = [
        (
            "mariadb, read and write, 8 connections",
            "--concurrency=8",
            scaled(4000.0, 1000.0),
        ),
        (
            "mariadb, a connection for 10 queries",
            "--concurrency=8 --detach=10",
            scaled(1000.0, 200.0),
        ),
    ];
    for (what, options, queries) in runs {
        let line = format!(
            "mariadb-slap --no-defaults -h mariadb -u suite --auto-generate-sql --auto-generate-sql-load-type=mixed \
             --number-of-queries={queries} {options}"
        );
        let [plain, meshed] = stage.both(&line).await.unwrap();
        let rate = |said: &Said| {
            queries
                / said
                    .number("Average number of seconds to run all queries:")
                    .unwrap()
        };
        figures.add(what, "queries/s", rate(&plain), rate(&meshed));
    }
    // The server speaks first.
    stage
        .greets("mariadb, until it greets", "mariadb:3306", &mut figures)
        .await
        .unwrap();
    // A result larger than every window on the way.
    let large = "mariadb --no-defaults -h mariadb -u suite -N -e \"select repeat('x', 16000000)\" --max-allowed-packet=64M | wc -c";
    for said in stage.both(large).await.unwrap() {
        assert_eq!(said.good().unwrap().trim(), "16000001", "{}", said.text());
    }
    figures.show();
    stage.end().await.unwrap();
}

#[tokio::test]
async fn redis() {
    let stage = Stage::start("rd", |dir, _| {
        Ok(vec![Server {
            name: "redis",
            ports: &[6379],
            declared: None,
            serves: "redis-cli -h redis ping",
            command: format!(
                "exec redis-server --port 6379 --bind '*' --protected-mode no --save '' --dir {}",
                dir.display()
            ),
        }])
    });
    let stage = stage.await.unwrap();
    let mut figures = Figures::default();
    for (what, requests, options) in [
        (
            "redis, 20 connections",
            20_000,
            "-c 20 -t set,get,lpush,mset",
        ),
        ("redis, pipelines of 16", 100_000, "-c 20 -P 16 -t set,get"),
        (
            "redis, values of 100 KB",
            2_000,
            "-c 8 -d 100000 -t set,get",
        ),
    ] {
        let requests = scaled(requests, requests / 5);
        let line = format!("redis-benchmark -h redis --csv -n {requests} {options}");
        let [plain, meshed] = stage.both(&line).await.unwrap();
        let rows = |side: Side| {
            let said = if side == Side::Plain { &plain } else { &meshed };
            let out = said.good().unwrap();
            assert!(!out.contains("rror"), "{}", said.text());
            let rows = out.lines().skip(1).filter_map(|line| {
                let mut fields = line
                    .split(',')
                    .map(|field| field.trim_matches('"').to_owned());
                Some((fields.next()?, fields.next()?.parse::<f64>().ok()?))
            });
            rows.collect::<Vec<_>>()
        };
        let (plain, meshed) = (rows(Side::Plain), rows(Side::Meshed));
        assert!(
            !plain.is_empty() && plain.len() == meshed.len(),
            "{plain:?} {meshed:?}"
        );
        for ((command, plain), (_, meshed)) in plain.iter().zip(&meshed) {
            let command = command.split(' ').next().unwrap_or_default();
            figures.add(&format!("{what}, {command}"), "requests/s", *plain, *meshed);
        }
    }
    // What was written comes back, through the protocol for bulk too.
    let line = "seq 1 50000 | sed 's/.*/SET key:& value:&/' | redis-cli -h redis --pipe && redis-cli -h redis get key:50000";
    for said in stage.both(line).await.unwrap() {
        let out = said.good().unwrap();
        assert!(
            out.contains("errors: 0, replies: 50000") && out.ends_with("value:50000\n"),
            "{}",
            said.text()
        );
    }
    figures.show();
    stage.end().await.unwrap();
}
