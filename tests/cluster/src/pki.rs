// SPDX-License-Identifier: Apache-2.0
//! The certificates and the kubeconfigs of a cluster: two authorities, a certificate for each component, a key pair for the
//! tokens of service accounts. Names after Kubernetes' "PKI certificates and requirements".

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

/// Who the API server is called.
const NAMES: &[&str] = &[
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    "10.96.0.1",
];

type Authority = Issuer<'static, KeyPair>;

/// Writes everything for a cluster whose API server is at `server` and whose nodes have these names into `dir`.
///
/// # Errors
///
/// A file that cannot be written.
pub(crate) fn write(dir: &Path, server: &str, nodes: &[String]) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    let ca = authority(dir, "ca")?;
    let front = authority(dir, "front-proxy-ca")?;
    let names: Vec<_> = NAMES
        .iter()
        .chain([&server])
        .map(|&name| name.to_owned())
        .collect();
    leaf(dir, &ca, "apiserver", ("kube-apiserver", ""), names)?;
    leaf(
        dir,
        &ca,
        "apiserver-kubelet",
        ("apiserver-kubelet", "system:masters"),
        vec![],
    )?;
    leaf(
        dir,
        &front,
        "front-proxy",
        ("front-proxy-client", ""),
        vec![],
    )?;
    let component = |name: &str| format!("system:{name}");
    let mut users = vec![("admin".to_owned(), "admin".to_owned(), "system:masters")];
    for name in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        users.push((name.to_owned(), component(name), ""));
    }
    for node in nodes {
        users.push((node.clone(), format!("system:node:{node}"), "system:nodes"));
    }
    for (file, user, group) in users {
        leaf(dir, &ca, &file, (&user, group), vec![])?;
        kubeconfig(dir, &file, server)?;
    }
    let tokens = KeyPair::generate()?;
    fs::write(dir.join("sa.key"), tokens.serialize_pem())?;
    Ok(fs::write(dir.join("sa.pub"), tokens.public_key_pem())?)
}

/// An authority that signs itself.
fn authority(dir: &Path, name: &str) -> anyhow::Result<Authority> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let certificate = params.self_signed(&key)?;
    fs::write(dir.join(format!("{name}.crt")), certificate.pem())?;
    fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    Ok(Issuer::new(params, key))
}

/// A certificate for a client, and for a server where `names` has any, of a user and its group.
fn leaf(
    dir: &Path,
    ca: &Authority,
    file: &str,
    (user, group): (&str, &str),
    names: Vec<String>,
) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let usage = if names.is_empty() {
        Usage::ClientAuth
    } else {
        Usage::ServerAuth
    };
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, user);
    if !group.is_empty() {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, ca)?;
    fs::write(dir.join(format!("{file}.crt")), certificate.pem())?;
    fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).context("a key")
}

/// How the user of that certificate reaches the API server. JSON is YAML.
fn kubeconfig(dir: &Path, user: &str, server: &str) -> anyhow::Result<()> {
    let file = |name: &str| dir.join(name).display().to_string();
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://{server}:6443"),
            "certificate-authority": file("ca.crt"),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate": file(&format!("{user}.crt")),
            "client-key": file(&format!("{user}.key")),
        }}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "current-context": "test",
    });
    Ok(fs::write(
        dir.join(format!("{user}.conf")),
        serde_json::to_vec_pretty(&config)?,
    )?)
}
