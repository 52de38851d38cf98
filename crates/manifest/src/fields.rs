// SPDX-License-Identifier: Apache-2.0
//! What is supported, field by field: one table a Kubernetes type, one line a field.
//!
//! A field that is in no table is an error. `Warn` is for what changes nothing on one machine; `Refuse` for what would change the
//! meaning if it were ignored. `kinds.rs` holds the same for whole kinds. `walk.rs` reads the tables.

mod kinds;
mod rollout;
mod texts;

pub(crate) use kinds::{KINDS, KindRule};
use rollout::STRATEGY;
use texts::{
    ABSOLUTE_PATH, ANY, CONFIG_KEY, DNS_NAME, ENV_NAME, HTTP_TOKEN, IP_FAMILY, IP_FAMILY_POLICY,
    IP_OR_NONE, LABEL, LABEL_KEY, LABEL_VALUE, NAME, PORT_NAME, RELATIVE_PATH, SERVICE_TYPE,
    TRAFFIC_DISTRIBUTION, TRANSPORT,
};
pub(crate) use texts::{Check, is_port_name};

/// One field of a type.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    /// What to say when it is absent, where it must not be.
    pub(crate) required: Option<&'static str>,
}

/// What becomes of a field.
#[derive(Debug)]
pub(crate) enum Rule {
    /// Supported.
    Take(Type),
    /// Harmless to ignore, because of this.
    Warn(&'static str),
    /// Not harmless to ignore, because of this.
    Refuse(&'static str),
    /// Nothing to do for these values; others are refused, because of this.
    Only(&'static [&'static str], &'static str),
}

/// What a supported field holds.
#[derive(Debug)]
pub(crate) enum Type {
    Text(&'static Check),
    Bool,
    /// From, to.
    Int(u32, u32),
    PortOrName,
    /// A number or a percentage.
    Amount,
    Object(&'static [Field]),
    List(&'static Self),
    /// Keys, values.
    Map(&'static Check, &'static Self),
}

use Rule::{Only, Refuse, Take, Warn};
use Type::{Bool, Int, List, Object, PortOrName, Text};

const fn f(name: &'static str, rule: Rule) -> Field {
    Field {
        name,
        rule,
        required: None,
    }
}

const fn must(name: &'static str, rule: Rule, what: &'static str) -> Field {
    Field {
        name,
        rule,
        required: Some(what),
    }
}

const PORT: Type = Int(1, 65_535);
const SECONDS: Type = Int(0, 86_400);
const ANY_TEXT: Type = Text(&ANY);
const LABELS: Type = Type::Map(&LABEL_KEY, &Text(&LABEL_VALUE));
const ANNOTATIONS: Type = Type::Map(&LABEL_KEY, &ANY_TEXT);

const SERVER_SET: Rule = Warn("the API server sets it");
const ONE_MACHINE: Rule = Warn("there is one machine to choose");
const NO_IMAGES: Rule = Warn("no image is pulled: containers are processes of this machine");
const NO_CGROUPS: Rule = Warn("resources are not limited on one machine");
const OWN_USER: Rule = Warn("containers run as whoever runs maille, with no more rights");
const NO_HISTORY: Rule =
    Warn("a rollout goes on until it is done, and there is no way back but the older file");
const OUTSIDE: Rule = Warn("services are reached from pods only");
const NO_SECRETS: Rule = Refuse("Secrets are not read; use a ConfigMap");
const NO_STORAGE: Rule = Refuse("volumes are configMap and emptyDir only");
const NO_HOST: &str = "a pod has a process table and shared memory of its own";
const TERMINAL: Rule = Warn("containers have no terminal and no input");

const META: &[Field] = &[
    must("name", Take(Text(&NAME)), "give the object a name"),
    f("namespace", Take(Text(&LABEL))),
    f("labels", Take(LABELS)),
    f("annotations", Take(ANNOTATIONS)),
    f("generateName", Refuse("give it a name")),
    f("finalizers", Refuse("nobody would run them")),
    f("ownerReferences", Refuse("objects in a file have no owner")),
    f("uid", SERVER_SET),
    f("resourceVersion", SERVER_SET),
    f("generation", SERVER_SET),
    f("creationTimestamp", SERVER_SET),
    f("deletionTimestamp", Refuse("it is being deleted")),
    f("deletionGracePeriodSeconds", SERVER_SET),
    f("managedFields", SERVER_SET),
    f("selfLink", SERVER_SET),
];

const TEMPLATE_META: &[Field] = &[
    f("labels", Take(LABELS)),
    f("annotations", Take(ANNOTATIONS)),
    f("name", Warn("pods are named after their Deployment")),
    f(
        "namespace",
        Warn("pods live in their Deployment's namespace"),
    ),
    f("creationTimestamp", SERVER_SET),
];

const API_VERSION: Field = f("apiVersion", Take(ANY_TEXT));
const KIND: Field = f("kind", Take(ANY_TEXT));
const METADATA: Field = must(
    "metadata",
    Take(Object(META)),
    "give it metadata with a name",
);
const STATUS: Field = f("status", SERVER_SET);

pub(crate) const NAMESPACE: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    f("spec", Warn("only the API server reads it")),
];

pub(crate) const SERVICE_ACCOUNT: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    f("automountServiceAccountToken", Warn("no token is mounted")),
    f("imagePullSecrets", NO_IMAGES),
    f("secrets", Warn("no token is mounted")),
];

pub(crate) const CONFIG_MAP: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    f("data", Take(Type::Map(&CONFIG_KEY, &ANY_TEXT))),
    f("binaryData", Refuse("only text is read; use data")),
    f("immutable", Warn("manifests are read once")),
];

pub(crate) const DEPLOYMENT: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    must("spec", Take(Object(DEPLOYMENT_SPEC)), "say what to run"),
];

const DEPLOYMENT_SPEC: &[Field] = &[
    f("replicas", Take(Int(0, 200))),
    must(
        "selector",
        Take(Object(LABEL_SELECTOR)),
        "say which labels its pods have",
    ),
    must(
        "template",
        Take(Object(POD_TEMPLATE)),
        "say what its pods look like",
    ),
    f("strategy", Take(Object(STRATEGY))),
    f("minReadySeconds", Take(Int(0, 3600))),
    f("revisionHistoryLimit", NO_HISTORY),
    f("progressDeadlineSeconds", NO_HISTORY),
    f(
        "paused",
        Only(&["false"], "a Deployment runs as soon as it is read"),
    ),
];

const LABEL_SELECTOR: &[Field] = &[
    f("matchLabels", Take(LABELS)),
    f("matchExpressions", Refuse("use matchLabels")),
];

const POD_TEMPLATE: &[Field] = &[
    f("metadata", Take(Object(TEMPLATE_META))),
    must(
        "spec",
        Take(Object(POD_SPEC)),
        "say which containers to run",
    ),
];

pub(crate) const POD: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    must(
        "spec",
        Take(Object(POD_SPEC)),
        "say which containers to run",
    ),
];

const POD_SPEC: &[Field] = &[
    must(
        "containers",
        Take(List(&Object(CONTAINER))),
        "give it at least one container",
    ),
    f("serviceAccountName", Take(Text(&NAME))),
    f("terminationGracePeriodSeconds", Take(SECONDS)),
    f("volumes", Take(List(&Object(VOLUME)))),
    f(
        "restartPolicy",
        Only(&["Always"], "containers are always started again"),
    ),
    f(
        "serviceAccount",
        Refuse("it is the old name of serviceAccountName"),
    ),
    f(
        "initContainers",
        Refuse("ignoring them would start the containers too early"),
    ),
    f(
        "ephemeralContainers",
        Refuse("they are added to running pods only"),
    ),
    f("hostNetwork", Take(Bool)),
    f("hostPID", Only(&["false"], NO_HOST)),
    f("hostIPC", Only(&["false"], NO_HOST)),
    f("hostUsers", OWN_USER),
    f(
        "dnsPolicy",
        Only(
            &["ClusterFirst", "ClusterFirstWithHostNet"],
            "names are looked up in the cluster first",
        ),
    ),
    f(
        "dnsConfig",
        Refuse("it would be ignored, and names looked up elsewhere"),
    ),
    f(
        "hostAliases",
        Refuse("they would be missing from /etc/hosts"),
    ),
    f("hostname", Refuse("a pod's host name is its own name")),
    f("subdomain", Refuse("a pod has no name below a service")),
    f(
        "setHostnameAsFQDN",
        Only(&["false"], "a pod's host name is its own name"),
    ),
    f("securityContext", OWN_USER),
    f(
        "shareProcessNamespace",
        Warn("containers of a pod share their processes' namespace"),
    ),
    f("nodeName", ONE_MACHINE),
    f("nodeSelector", ONE_MACHINE),
    f("affinity", ONE_MACHINE),
    f("tolerations", ONE_MACHINE),
    f("topologySpreadConstraints", ONE_MACHINE),
    f("schedulerName", ONE_MACHINE),
    f("schedulingGates", Refuse("the pod would start too early")),
    f("priorityClassName", ONE_MACHINE),
    f("priority", ONE_MACHINE),
    f("preemptionPolicy", ONE_MACHINE),
    f("overhead", NO_CGROUPS),
    f("resources", NO_CGROUPS),
    f("resourceClaims", Refuse("there are no devices to claim")),
    f("imagePullSecrets", NO_IMAGES),
    f("automountServiceAccountToken", Warn("no token is mounted")),
    f(
        "enableServiceLinks",
        Warn("services are found by name only"),
    ),
    f(
        "runtimeClassName",
        Refuse("containers are processes of this machine, not sandboxes"),
    ),
    f("readinessGates", Refuse("nobody would open them")),
    f(
        "activeDeadlineSeconds",
        Refuse("the pod would run for ever"),
    ),
    f("os", Warn("containers are processes of this machine")),
];

const CONTAINER: &[Field] = &[
    must("name", Take(Text(&LABEL)), "give the container a name"),
    f("image", Take(ANY_TEXT)),
    f("command", Take(List(&ANY_TEXT))),
    f("args", Take(List(&ANY_TEXT))),
    f("workingDir", Take(Text(&ABSOLUTE_PATH))),
    f("ports", Take(List(&Object(CONTAINER_PORT)))),
    f("env", Take(List(&Object(ENV_VAR)))),
    f("envFrom", Take(List(&Object(ENV_FROM)))),
    f("volumeMounts", Take(List(&Object(VOLUME_MOUNT)))),
    f("readinessProbe", Take(Object(PROBE))),
    f("livenessProbe", Take(Object(PROBE))),
    f(
        "startupProbe",
        Refuse("give the other probes an initialDelaySeconds"),
    ),
    f("imagePullPolicy", NO_IMAGES),
    f("resources", NO_CGROUPS),
    f("resizePolicy", NO_CGROUPS),
    f("securityContext", OWN_USER),
    f("lifecycle", Refuse("its commands would not be run")),
    f(
        "restartPolicy",
        Refuse("containers are always started again"),
    ),
    f("volumeDevices", NO_STORAGE),
    f("stdin", TERMINAL),
    f("stdinOnce", TERMINAL),
    f("tty", TERMINAL),
    f(
        "terminationMessagePath",
        Warn("the last lines of the log are shown instead"),
    ),
    f(
        "terminationMessagePolicy",
        Warn("the last lines of the log are shown instead"),
    ),
];

const CONTAINER_PORT: &[Field] = &[
    f("name", Take(Text(&PORT_NAME))),
    must("containerPort", Take(PORT), "say which port"),
    f("protocol", Take(Text(&TRANSPORT))),
    f("hostPort", Refuse("ports of the machine are not opened")),
    f("hostIP", Refuse("ports of the machine are not opened")),
];

const ENV_VAR: &[Field] = &[
    must("name", Take(Text(&ENV_NAME)), "give the variable a name"),
    f("value", Take(ANY_TEXT)),
    f("valueFrom", Take(Object(ENV_SOURCE))),
];

const ENV_SOURCE: &[Field] = &[
    f("configMapKeyRef", Take(Object(CONFIG_MAP_KEY_REF))),
    f("fieldRef", Take(Object(FIELD_REF))),
    f("secretKeyRef", NO_SECRETS),
    f(
        "resourceFieldRef",
        Refuse("containers have no limits to tell"),
    ),
    f("fileKeyRef", Refuse("use configMapKeyRef")),
];

const CONFIG_MAP_KEY_REF: &[Field] = &[
    must("name", Take(Text(&NAME)), "say which ConfigMap"),
    must("key", Take(Text(&CONFIG_KEY)), "say which key"),
    f("optional", Take(Bool)),
];

const FIELD_REF: &[Field] = &[
    must("fieldPath", Take(ANY_TEXT), "say which field"),
    f("apiVersion", Only(&["v1"], "the pod's version is v1")),
];

const ENV_FROM: &[Field] = &[
    f("prefix", Take(Text(&ENV_NAME))),
    f("configMapRef", Take(Object(CONFIG_MAP_REF))),
    f("secretRef", NO_SECRETS),
];

const CONFIG_MAP_REF: &[Field] = &[
    must("name", Take(Text(&NAME)), "say which ConfigMap"),
    f("optional", Take(Bool)),
];

const VOLUME_MOUNT: &[Field] = &[
    must("name", Take(Text(&LABEL)), "say which volume"),
    must("mountPath", Take(Text(&ABSOLUTE_PATH)), "say where"),
    f("readOnly", Take(Bool)),
    f("recursiveReadOnly", Warn("mounts have nothing below them")),
    f(
        "mountPropagation",
        Only(&["None"], "mounts stay in their container"),
    ),
    f("subPath", Refuse("the whole volume would appear")),
    f("subPathExpr", Refuse("the whole volume would appear")),
];

const VOLUME: &[Field] = &[
    must("name", Take(Text(&LABEL)), "give the volume a name"),
    f("configMap", Take(Object(CONFIG_MAP_VOLUME))),
    f("emptyDir", Take(Object(EMPTY_DIR))),
    f("secret", NO_SECRETS),
    f(
        "hostPath",
        Refuse("containers see the machine's files anyway; mount nothing"),
    ),
    f("persistentVolumeClaim", NO_STORAGE),
    f("projected", NO_STORAGE),
    f("downwardAPI", NO_STORAGE),
    f("ephemeral", NO_STORAGE),
    f("csi", NO_STORAGE),
    f("nfs", NO_STORAGE),
    f("iscsi", NO_STORAGE),
    f("image", NO_STORAGE),
];

const CONFIG_MAP_VOLUME: &[Field] = &[
    must("name", Take(Text(&NAME)), "say which ConfigMap"),
    f("items", Take(List(&Object(CONFIG_MAP_ITEM)))),
    f("optional", Take(Bool)),
    f("defaultMode", Take(Int(0, 0o777))),
];

const CONFIG_MAP_ITEM: &[Field] = &[
    must("key", Take(Text(&CONFIG_KEY)), "say which key"),
    must("path", Take(Text(&RELATIVE_PATH)), "say which file"),
    f("mode", Refuse("use defaultMode")),
];

const EMPTY_DIR: &[Field] = &[
    f("medium", Warn("it is kept in memory in any case")),
    f("sizeLimit", NO_CGROUPS),
];

const PROBE: &[Field] = &[
    f("httpGet", Take(Object(HTTP_GET))),
    f("tcpSocket", Take(Object(TCP_SOCKET))),
    f("exec", Refuse("probes are httpGet and tcpSocket")),
    f("grpc", Refuse("probes are httpGet and tcpSocket")),
    f("initialDelaySeconds", Take(SECONDS)),
    f("periodSeconds", Take(Int(1, 86_400))),
    f("timeoutSeconds", Take(Int(1, 86_400))),
    f("successThreshold", Take(Int(1, 1000))),
    f("failureThreshold", Take(Int(1, 1000))),
    f(
        "terminationGracePeriodSeconds",
        Warn("the pod's own is used"),
    ),
];

const HTTP_GET: &[Field] = &[
    f("path", Take(Text(&ANY))),
    must("port", Take(PortOrName), "say which port"),
    f("scheme", Only(&["HTTP"], "probes speak HTTP")),
    f("host", Refuse("probes ask the pod itself")),
    f("httpHeaders", Take(List(&Object(HTTP_HEADER)))),
];

const HTTP_HEADER: &[Field] = &[
    must("name", Take(Text(&HTTP_TOKEN)), "give the field a name"),
    must(
        "value",
        Take(Text(&texts::HTTP_VALUE)),
        "give the field a value",
    ),
];

const TCP_SOCKET: &[Field] = &[
    must("port", Take(PortOrName), "say which port"),
    f("host", Refuse("probes ask the pod itself")),
];

pub(crate) const SERVICE: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    must(
        "spec",
        Take(Object(SERVICE_SPEC)),
        "say which ports and pods",
    ),
];

const SERVICE_SPEC: &[Field] = &[
    f("ports", Take(List(&Object(SERVICE_PORT)))),
    f("selector", Take(LABELS)),
    f("clusterIP", Take(Text(&IP_OR_NONE))),
    f("clusterIPs", Take(List(&Text(&IP_OR_NONE)))),
    f("type", Take(Text(&SERVICE_TYPE))),
    f(
        "sessionAffinity",
        Only(&["None"], "every request is balanced on its own"),
    ),
    f(
        "sessionAffinityConfig",
        Refuse("every request is balanced on its own"),
    ),
    f(
        "publishNotReadyAddresses",
        Only(&["false"], "only ready pods are sent work"),
    ),
    f("ipFamilies", Take(List(&Text(&IP_FAMILY)))),
    f("ipFamilyPolicy", Take(Text(&IP_FAMILY_POLICY))),
    f("internalTrafficPolicy", ONE_MACHINE),
    f("trafficDistribution", Take(Text(&TRAFFIC_DISTRIBUTION))),
    f("externalTrafficPolicy", OUTSIDE),
    f("externalIPs", Refuse("services are reached from pods only")),
    f("externalName", Take(Text(&DNS_NAME))),
    f("loadBalancerIP", OUTSIDE),
    f("loadBalancerClass", OUTSIDE),
    f("loadBalancerSourceRanges", OUTSIDE),
    f("allocateLoadBalancerNodePorts", OUTSIDE),
    f("healthCheckNodePort", OUTSIDE),
];

const SERVICE_PORT: &[Field] = &[
    f("name", Take(Text(&LABEL))),
    must("port", Take(PORT), "say which port clients dial"),
    f("targetPort", Take(PortOrName)),
    f("protocol", Take(Text(&TRANSPORT))),
    f("appProtocol", Take(ANY_TEXT)),
    f("nodePort", OUTSIDE),
];
