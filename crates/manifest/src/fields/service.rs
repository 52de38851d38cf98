// SPDX-License-Identifier: Apache-2.0
//! Services and EndpointSlices. Read [`super`] for what a line means.

use super::Rule::{Only, Refuse, Take, Warn};
use super::Type::{Bool, List, Object, PortOrName, Text};
use super::meta::{ANY_TEXT, API_VERSION, KIND, LABELS, METADATA, ONE_MACHINE, PORT, STATUS};
use super::texts::{
    ADDRESS, ADDRESS_TYPE, DNS_NAME, IP_FAMILY, IP_FAMILY_POLICY, IP_OR_NONE, LABEL,
    PORT_NAME_OR_NONE, SERVICE_TYPE, TRAFFIC_DISTRIBUTION, TRANSPORT,
};
use super::{Field, Rule, f, must};

const OUTSIDE: Rule = Warn("services are reached from pods only");

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

pub(super) const SERVICE_SPEC: &[Field] = &[
    f("ports", Take(List(&Object(SERVICE_PORT)))),
    f("selector", Take(LABELS)).note("absent: the service's EndpointSlices say where it leads"),
    f("clusterIP", Take(Text(&IP_OR_NONE))).note("`None`: headless"),
    f("clusterIPs", Take(List(&Text(&IP_OR_NONE)))),
    f("type", Take(Text(&SERVICE_TYPE))).note(
        "`NodePort` and `LoadBalancer` are `ClusterIP` here: services are reached from pods only",
    ),
    f(
        "sessionAffinity",
        Only(&["None"], "every request is balanced on its own"),
    ),
    f(
        "sessionAffinityConfig",
        Refuse("every request is balanced on its own"),
    ),
    f("publishNotReadyAddresses", Take(Bool))
        .note("of a headless service, in DNS; the mesh sends work to ready pods only"),
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

pub(super) const SERVICE_PORT: &[Field] = &[
    f("name", Take(Text(&LABEL))),
    must("port", Take(PORT), "say which port clients dial"),
    f("targetPort", Take(PortOrName)),
    f("protocol", Take(Text(&TRANSPORT))),
    f("appProtocol", Take(ANY_TEXT)),
    f("nodePort", OUTSIDE),
];

pub(crate) const ENDPOINT_SLICE: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    must("addressType", Take(Text(&ADDRESS_TYPE)), "say IPv4 or IPv6"),
    f("endpoints", Take(List(&Object(ENDPOINT)))),
    f("ports", Take(List(&Object(SLICE_PORT)))),
];

const ENDPOINT: &[Field] = &[
    must(
        "addresses",
        Take(List(&Text(&ADDRESS))),
        "give it an address",
    ),
    f("conditions", Take(Object(CONDITIONS))),
    f("hostname", Take(Text(&LABEL))),
    f("nodeName", ONE_MACHINE),
    f("zone", ONE_MACHINE),
    f("hints", ONE_MACHINE),
    f("targetRef", Warn("the address says whose it is")),
    f("deprecatedTopology", ONE_MACHINE),
];

const CONDITIONS: &[Field] = &[
    f("ready", Take(Bool)),
    f("serving", Warn("ready says the same here")),
    f("terminating", Only(&["false"], "leave the endpoint out")),
];

const SLICE_PORT: &[Field] = &[
    f("name", Take(Text(&PORT_NAME_OR_NONE))).note("the name of the service's port, as there"),
    must("port", Take(PORT), "say where the endpoints listen"),
    f("protocol", Take(Text(&TRANSPORT))),
    f("appProtocol", Take(ANY_TEXT)),
];
