// SPDX-License-Identifier: Apache-2.0
//! Volumes and their mounts. Read [`super`] for what a line means.

use super::Rule::{Only, Refuse, Take, Warn};
use super::Type::{self, Bool, Int, List, Object, Quantity, Text};
use super::meta::ANY_TEXT;
use super::refs::{FIELD_REF, RESOURCE_FIELD_REF};
use super::texts::{
    ABSOLUTE_PATH, CONFIG_KEY, FILE_PATH, HOST_PATH_TYPE, LABEL, MEDIUM, NAME, RELATIVE_PATH,
};
use super::{Field, Rule, f, must};

const NO_STORAGE: Rule = Refuse(
    "volumes are configMap, secret, downwardAPI, projected, emptyDir, hostPath and persistentVolumeClaim; an emptyDir of the same name does for a trial",
);
const MODE: Type = Int(0, 0o777);

pub(super) const VOLUME_MOUNT: &[Field] = &[
    must("name", Take(Text(&LABEL)), "say which volume"),
    must("mountPath", Take(Text(&ABSOLUTE_PATH)), "say where")
        .note("made where it does not exist, for this container alone"),
    f("readOnly", Take(Bool)),
    f("recursiveReadOnly", Warn("mounts have nothing below them")),
    f(
        "mountPropagation",
        Only(&["None"], "mounts stay in their container"),
    ),
    f("subPath", Take(Text(&RELATIVE_PATH))),
    f("subPathExpr", Take(ANY_TEXT)),
];

pub(super) const VOLUME: &[Field] = &[
    must("name", Take(Text(&LABEL)), "give the volume a name"),
    f("configMap", Take(Object(CONFIG_MAP_VOLUME))),
    f("secret", Take(Object(SECRET_VOLUME))),
    f("downwardAPI", Take(Object(DOWNWARD_VOLUME))),
    f("projected", Take(Object(PROJECTED_VOLUME))),
    f("emptyDir", Take(Object(EMPTY_DIR))),
    f("hostPath", Take(Object(HOST_PATH))).note("only with `--allow-host-path`"),
    f("persistentVolumeClaim", Take(Object(CLAIM_VOLUME))).note("see Storage"),
    f("ephemeral", NO_STORAGE),
    f("csi", NO_STORAGE),
    f("nfs", NO_STORAGE),
    f("iscsi", NO_STORAGE),
    f("fc", NO_STORAGE),
    f("cephfs", NO_STORAGE),
    f("rbd", NO_STORAGE),
    f("glusterfs", NO_STORAGE),
    f("gitRepo", NO_STORAGE),
    f("awsElasticBlockStore", NO_STORAGE),
    f("azureDisk", NO_STORAGE),
    f("azureFile", NO_STORAGE),
    f("gcePersistentDisk", NO_STORAGE),
    f("vsphereVolume", NO_STORAGE),
    f("flexVolume", NO_STORAGE),
    f("image", NO_STORAGE),
];

pub(super) const CONFIG_MAP_VOLUME: &[Field] = &[
    must("name", Take(Text(&NAME)), "say which ConfigMap"),
    f("items", Take(List(&Object(KEY_TO_PATH)))),
    f("optional", Take(Bool)),
    f("defaultMode", Take(MODE)),
];

pub(super) const SECRET_VOLUME: &[Field] = &[
    must("secretName", Take(Text(&NAME)), "say which Secret"),
    f("items", Take(List(&Object(KEY_TO_PATH)))),
    f("optional", Take(Bool)),
    f("defaultMode", Take(MODE)),
];

pub(super) const KEY_TO_PATH: &[Field] = &[
    must("key", Take(Text(&CONFIG_KEY)), "say which key"),
    must("path", Take(Text(&FILE_PATH)), "say which file"),
    f("mode", Take(MODE)),
];

pub(super) const DOWNWARD_VOLUME: &[Field] = &[
    f("items", Take(List(&Object(DOWNWARD_ITEM)))),
    f("defaultMode", Take(MODE)),
];

const DOWNWARD_ITEM: &[Field] = &[
    must("path", Take(Text(&FILE_PATH)), "say which file"),
    f("fieldRef", Take(Object(FIELD_REF))),
    f("resourceFieldRef", Take(Object(RESOURCE_FIELD_REF))),
    f("mode", Take(MODE)),
];

pub(super) const PROJECTED_VOLUME: &[Field] = &[
    f("sources", Take(List(&Object(PROJECTION)))),
    f("defaultMode", Take(MODE)),
];

const PROJECTION: &[Field] = &[
    f("configMap", Take(Object(PROJECTED_KEYS))),
    f("secret", Take(Object(PROJECTED_KEYS))),
    f("downwardAPI", Take(Object(DOWNWARD_VOLUME))),
    f(
        "serviceAccountToken",
        Refuse("there is no API server that would take the token"),
    ),
    f(
        "clusterTrustBundle",
        Refuse("there is no API server that has one"),
    ),
    f(
        "podCertificate",
        Refuse("there is no API server that would sign it"),
    ),
];

const PROJECTED_KEYS: &[Field] = &[
    must("name", Take(Text(&NAME)), "say which object"),
    f("items", Take(List(&Object(KEY_TO_PATH)))),
    f("optional", Take(Bool)),
];

const EMPTY_DIR: &[Field] = &[
    f("medium", Take(Text(&MEDIUM)))
        .note("`Memory`: a tmpfs of its own, or a directory of the run otherwise"),
    f("sizeLimit", Take(Quantity))
        .note("holds for `medium: Memory` only; otherwise a warning says so"),
];

const CLAIM_VOLUME: &[Field] = &[
    must("claimName", Take(Text(&NAME)), "say which claim"),
    f("readOnly", Take(Bool)),
];

const HOST_PATH: &[Field] = &[
    must("path", Take(Text(&ABSOLUTE_PATH)), "say which path"),
    f("type", Take(Text(&HOST_PATH_TYPE))),
];
