//! What a host is and what it shall be, compared: facts and a desired state become an ordered plan of idempotent
//! steps.
//!
//! Must not know how a fact is observed or a step carried out, nor what the files, units and links mean to a cluster.
//! The desired state is one JSON document ([`Desired`]); progress goes back as JSON lines ([`Event`]). Carrying a plan
//! out and planning again gives the empty plan.

mod bundle;
mod desired;
mod diff;
mod engine;
mod event;
mod facts;
mod os;
mod package;
mod plan;
mod step;
mod words;

pub use bundle::{BundledPackage, Lacking, Manifest, ManifestError, PackageSet, Target, WantedBundle, file_name};
pub use desired::{Absent, Binary, Desired, DesiredError, File, Folder, Link, Proxies, Unit, WantedEngine};
pub use event::{Event, PlannedStep};
pub use facts::{Engine, Entry, Facts, Journal, UnitFact};
pub use os::{OsRelease, System, Unsupported};
pub use package::{Change, Package, Version};
pub use plan::{ENGINE_UNIT, Plan, PlanError, plan};
pub use step::{Source, Step};
pub use words::{AbsPath, Content, Digest, Name, WordError};
