// SPDX-License-Identifier: Apache-2.0
//! Containers, their environment, probes, hooks and rights. Read [`super`] for what a line means.

use super::Rule::{Only, Refuse, Take, Warn};
use super::Type::{self, Bool, Int, List, Object, PortOrName, Quantity, Text};
use super::meta::{ANY_TEXT, NO_IMAGES, PORT, SECONDS};
use super::refs::{FIELD_REF, KEY_REF, RESOURCE_FIELD_REF, SOURCE_REF};
use super::texts::{
    ABSOLUTE_PATH, CAPABILITY, ENV_NAME, ENV_PREFIX, HTTP_TOKEN, HTTP_VALUE, LABEL, LABEL_KEY,
    PORT_NAME, RESTART_ALWAYS, SCHEME, TRANSPORT,
};
use super::volume::VOLUME_MOUNT;
use super::{Field, Rule, f, must};

const TERMINAL: Rule = Warn("containers have no terminal and no input");
const OWN_LOG: Rule = Warn("the last lines of the log are shown instead");
const KERNELS: Rule = Warn("the machine's own rules hold");
/// A user or group; the last one means "none" to the kernel.
pub(super) const ID: Type = Int(0, u32::MAX - 1);

pub(super) const CONTAINER: &[Field] = &[
    must("name", Take(Text(&LABEL)), "give the container a name"),
    f("image", Take(ANY_TEXT))
        .note("where there is no `command`: which program of the machine is run, see Images"),
    f("command", Take(List(&ANY_TEXT))),
    f("args", Take(List(&ANY_TEXT))),
    f("workingDir", Take(Text(&ABSOLUTE_PATH))),
    f("ports", Take(List(&Object(CONTAINER_PORT)))),
    f("env", Take(List(&Object(ENV_VAR)))),
    f("envFrom", Take(List(&Object(ENV_FROM)))),
    f("volumeMounts", Take(List(&Object(VOLUME_MOUNT)))),
    f("startupProbe", Take(Object(PROBE))),
    f("readinessProbe", Take(Object(PROBE))),
    f("livenessProbe", Take(Object(PROBE))),
    f("lifecycle", Take(Object(LIFECYCLE))),
    f("restartPolicy", Take(Text(&RESTART_ALWAYS)))
        .note("of init containers: it goes on beside the others"),
    f(
        "restartPolicyRules",
        Refuse("containers are started again by the pod's restartPolicy"),
    ),
    f("resources", Take(Object(RESOURCES))),
    f("securityContext", Take(Object(SECURITY))),
    f("imagePullPolicy", NO_IMAGES),
    f("resizePolicy", Warn("limits do not change while it runs")),
    f(
        "volumeDevices",
        Refuse("there are no block devices to give"),
    ),
    f("stdin", TERMINAL),
    f("stdinOnce", TERMINAL),
    f("tty", TERMINAL),
    f("terminationMessagePath", OWN_LOG),
    f("terminationMessagePolicy", OWN_LOG),
];

pub(super) const CONTAINER_PORT: &[Field] = &[
    f("name", Take(Text(&PORT_NAME))),
    must("containerPort", Take(PORT), "say which port"),
    f("protocol", Take(Text(&TRANSPORT))),
    f("hostPort", Refuse("ports of the machine are not opened")),
    f("hostIP", Refuse("ports of the machine are not opened")),
];

pub(super) const ENV_VAR: &[Field] = &[
    must("name", Take(Text(&ENV_NAME)), "give the variable a name"),
    f("value", Take(ANY_TEXT)),
    f("valueFrom", Take(Object(ENV_SOURCE))),
];

pub(super) const ENV_SOURCE: &[Field] = &[
    f("configMapKeyRef", Take(Object(KEY_REF))),
    f("secretKeyRef", Take(Object(KEY_REF))),
    f("fieldRef", Take(Object(FIELD_REF))),
    f("resourceFieldRef", Take(Object(RESOURCE_FIELD_REF))),
    f("fileKeyRef", Refuse("use configMapKeyRef or secretKeyRef")),
];

pub(super) const ENV_FROM: &[Field] = &[
    f("prefix", Take(Text(&ENV_PREFIX))),
    f("configMapRef", Take(Object(SOURCE_REF))),
    f("secretRef", Take(Object(SOURCE_REF))),
];

pub(super) const RESOURCES: &[Field] = &[
    f("limits", Take(Type::Map(&LABEL_KEY, &Quantity)))
        .note("`cpu` and `memory` hold where root can make a control group, with 4096 processes and threads at most; otherwise a warning says so"),
    f("requests", Take(Type::Map(&LABEL_KEY, &Quantity)))
        .note("told by `resourceFieldRef`; nothing is reserved"),
    f("claims", Refuse("there are no devices to claim")),
];

pub(super) const SECURITY: &[Field] = &[
    f("runAsUser", Take(ID)),
    f("runAsGroup", Take(ID)),
    f("runAsNonRoot", Take(Bool)).note("without `runAsUser` it runs as 65532"),
    f("allowPrivilegeEscalation", Take(Bool)),
    f("readOnlyRootFilesystem", Take(Bool)),
    f("capabilities", Take(Object(CAPABILITIES))),
    f(
        "privileged",
        Only(&["false"], "no pod has rights over the machine"),
    ),
    f(
        "procMount",
        Only(&["Default"], "/proc is the container's own, and whole"),
    ),
    f("seccompProfile", KERNELS),
    f("appArmorProfile", KERNELS),
    f("seLinuxOptions", KERNELS),
    f("windowsOptions", Warn("this is no Windows")),
];

const CAPABILITIES: &[Field] = &[
    f("drop", Take(List(&Text(&CAPABILITY)))),
    f("add", Take(List(&Text(&CAPABILITY))))
        .note("those that containers have by default; others are refused"),
];

pub(super) const PROBE: &[Field] = &[
    f("httpGet", Take(Object(HTTP_GET))),
    f("tcpSocket", Take(Object(TCP_SOCKET))),
    f("grpc", Take(Object(GRPC))),
    f("exec", Take(Object(EXEC))),
    f("initialDelaySeconds", Take(SECONDS)),
    f("periodSeconds", Take(Int(1, 86_400))),
    f("timeoutSeconds", Take(Int(1, 86_400))),
    f("successThreshold", Take(Int(1, 1000))),
    f("failureThreshold", Take(Int(1, 100_000))),
    f("terminationGracePeriodSeconds", Take(SECONDS)),
];

pub(super) const HTTP_GET: &[Field] = &[
    f("path", Take(ANY_TEXT)),
    must("port", Take(PortOrName), "say which port"),
    f("scheme", Take(Text(&SCHEME)))
        .note("`HTTPS`: whatever certificate the server has, as the kubelet asks"),
    f("host", Refuse("probes ask the pod itself")),
    f("httpHeaders", Take(List(&Object(HTTP_HEADER)))),
];

const HTTP_HEADER: &[Field] = &[
    must("name", Take(Text(&HTTP_TOKEN)), "give the field a name"),
    must("value", Take(Text(&HTTP_VALUE)), "give the field a value"),
];

const TCP_SOCKET: &[Field] = &[
    must("port", Take(PortOrName), "say which port"),
    f("host", Refuse("probes ask the pod itself")),
];

const GRPC: &[Field] = &[
    must("port", Take(PORT), "say which port"),
    f("service", Take(ANY_TEXT)),
];

const EXEC: &[Field] = &[must(
    "command",
    Take(List(&ANY_TEXT)),
    "say which program to run",
)];

pub(super) const LIFECYCLE: &[Field] = &[
    f("postStart", Take(Object(HOOK))),
    f("preStop", Take(Object(HOOK))),
    f(
        "stopSignal",
        Only(&["SIGTERM"], "containers are ended by SIGTERM"),
    ),
];

pub(super) const HOOK: &[Field] = &[
    f("exec", Take(Object(EXEC))),
    f("httpGet", Take(Object(HTTP_GET))),
    f("sleep", Take(Object(SLEEP))),
    f(
        "tcpSocket",
        Refuse("Kubernetes runs no such hook; use exec or httpGet"),
    ),
];

const SLEEP: &[Field] = &[must("seconds", Take(SECONDS), "say how long")];
