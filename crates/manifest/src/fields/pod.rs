// SPDX-License-Identifier: Apache-2.0
//! Pods and their templates. Read [`super`] for what a line means.

use super::Rule::{Only, Refuse, Take, Warn};
use super::Type::{Bool, Int, List, Object, Text};
use super::container::{CONTAINER, ID};
use super::meta::{
    ANY_TEXT, API_VERSION, KIND, METADATA, NO_IMAGES, NO_TOKEN, ONE_MACHINE, SECONDS, STATUS,
    TEMPLATE_META,
};
use super::texts::{ADDRESS, DNS_NAME, DNS_POLICY, LABEL, NAME, RESTART_POLICY};
use super::volume::VOLUME;
use super::{Field, Rule, f, must};

const OWN_TABLE: &str = "each container has a process table and shared memory of its own";
const NO_POD_LIMITS: Rule = Warn("limits hold for each container, not for the pod as a whole");
const KERNELS: Rule = Warn("the machine's own rules hold");

pub(super) const POD_TEMPLATE: &[Field] = &[
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

pub(super) const POD_SPEC: &[Field] = &[
    must(
        "containers",
        Take(List(&Object(CONTAINER))),
        "give it at least one container",
    ),
    f("initContainers", Take(List(&Object(CONTAINER))))
        .note("those with `restartPolicy: Always` go on beside the others (sidecars)"),
    f("serviceAccountName", Take(Text(&NAME))),
    f("serviceAccount", Take(Text(&NAME))).note("the old name of `serviceAccountName`, which wins"),
    f("terminationGracePeriodSeconds", Take(SECONDS)).note("5 s at most when everything ends"),
    f("volumes", Take(List(&Object(VOLUME)))),
    f("restartPolicy", Take(Text(&RESTART_POLICY))),
    f("activeDeadlineSeconds", Take(Int(1, 31_536_000))),
    f("hostname", Take(Text(&LABEL))),
    f("subdomain", Take(Text(&LABEL)))
        .note("a headless service of this name gives the pod a name in DNS"),
    f("setHostnameAsFQDN", Take(Bool)),
    f("hostAliases", Take(List(&Object(HOST_ALIAS)))),
    f("dnsPolicy", Take(Text(&DNS_POLICY))).note(
        "names of the cluster are looked up there in any case but `None`; others are not known",
    ),
    f("dnsConfig", Take(Object(DNS_CONFIG))),
    f("securityContext", Take(Object(POD_SECURITY))),
    f("hostNetwork", Take(Bool)).note("the pod is outside the mesh then"),
    f("hostPID", Only(&["false"], OWN_TABLE)),
    f("hostIPC", Only(&["false"], OWN_TABLE)),
    f("shareProcessNamespace", Only(&["false"], OWN_TABLE)),
    f("hostUsers", KERNELS),
    f("hostnameOverride", Refuse("use hostname")),
    f(
        "ephemeralContainers",
        Refuse("they are added to running pods only"),
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
    f("overhead", NO_POD_LIMITS),
    f("resources", NO_POD_LIMITS),
    f("resourceClaims", Refuse("there are no devices to claim")),
    f("imagePullSecrets", NO_IMAGES),
    f("automountServiceAccountToken", NO_TOKEN),
    f(
        "enableServiceLinks",
        Warn("services are found by name only"),
    ),
    f(
        "runtimeClassName",
        Refuse("containers are processes of this machine, not sandboxes"),
    ),
    f("readinessGates", Refuse("nobody would open them")),
    f("os", Warn("containers are processes of this machine")),
];

const HOST_ALIAS: &[Field] = &[
    must("ip", Take(Text(&ADDRESS)), "give it an address"),
    f("hostnames", Take(List(&Text(&DNS_NAME)))),
];

pub(super) const DNS_CONFIG: &[Field] = &[
    f("nameservers", Take(List(&Text(&ADDRESS)))),
    f("searches", Take(List(&Text(&DNS_NAME)))),
    f("options", Take(List(&Object(DNS_OPTION)))),
];

const DNS_OPTION: &[Field] = &[
    must("name", Take(Text(&super::texts::WORD)), "say which option"),
    f("value", Take(Text(&super::texts::WORD))),
];

pub(super) const POD_SECURITY: &[Field] = &[
    f("runAsUser", Take(ID)),
    f("runAsGroup", Take(ID)),
    f("runAsNonRoot", Take(Bool)).note("without `runAsUser` it runs as 65532"),
    f("fsGroup", Take(ID)).note("as an ordinary user: a warning, files belong to that user"),
    f(
        "fsGroupChangePolicy",
        Warn("volumes are made with their group"),
    ),
    f("supplementalGroups", Take(List(&ID))),
    f(
        "supplementalGroupsPolicy",
        Warn("a container has the groups that the manifest names, and no others"),
    ),
    f("sysctls", Take(List(&Object(SYSCTL)))).note("those of the network; others are refused"),
    f("seccompProfile", KERNELS),
    f("appArmorProfile", KERNELS),
    f("seLinuxOptions", KERNELS),
    f("seLinuxChangePolicy", KERNELS),
    f("windowsOptions", Warn("this is no Windows")),
];

const SYSCTL: &[Field] = &[
    must(
        "name",
        Take(Text(&super::texts::SYSCTL)),
        "say which setting",
    ),
    must("value", Take(ANY_TEXT), "say its value"),
];
