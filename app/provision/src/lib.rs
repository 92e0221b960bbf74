//! Provisioning: an inventory's hosts become one cluster, and stop being one, over the user's own ssh.
//!
//! Must not know how agents and managers work, only what they are given. Two sides live here: the operator's (inventory,
//! preflight, the cluster's keys, one document per host) and the node's (`converge`: observe, plan, carry out).

mod apt_key;
mod args;
mod bundle;
mod cluster;
mod context;
mod deliver;
mod doctor;
mod documents;
mod fleet;
mod home;
mod inventory;
mod inventory_files;
mod lock;
mod node;
mod preflight;
mod recap;
mod remote;
mod removal;
mod run;
mod settings;
mod show;
mod site;
mod vault;

pub use args::{
    BootstrapArgs, BundleDockerArgs, ChangeArgs, ConvergeArgs, DestroyArgs, EngineArgs, EnvArgs, Extra, HostArgs,
    InventoryArgs, PasswordSource, RemoveNodeArgs, SetupClusterArgs, ShowArgs, SiteArgs, VaultArgs, VaultId,
};
pub use bundle::run_bundle_docker;
pub use context::{DockerContext, Written, docker_folder, run_env};
pub use doctor::{DoctorArgs, run_doctor};
pub use fleet::{
    CopyArgs, ExecArgs, RemoveContainersArgs, RemoveImagesArgs, RestartDockerArgs, ServiceLogsArgs, run_copy, run_exec,
    run_remove_containers, run_remove_images, run_restart_docker, run_service_logs,
};
pub use home::{KnownCluster, Record, resolve_cluster, resolve_token};
pub use node::run_converge;
pub use remote::resolve_host;
pub use removal::run_node_rm;
pub use show::run_inventory;
pub use site::{run_bootstrap, run_destroy, run_setup_cluster, run_site};
