//! `osier vpn` and the seed's lines against real sshds, where the nodes are reached from the VPN's host only.

use crate::{
    vpn_world::{NODES, World, kill, lives, told},
    wait::{PATIENCE, equal, poll},
};
use osier_model::{Hostname, PeerId, Token};
use osier_pki::{Authority, Subject};
use osier_provision::Record;
use std::{collections::BTreeSet, fs, time::Instant};
use time::OffsetDateTime;

/// The seed's configuration, word for word.
const SEED: &str = r#"Host *.eolas
   User vpn-user
   ProxyCommand ssh vpn-host "nc -w 60 `basename %h .eolas` %p"
"#;
/// A command on a node that goes through a SOCKS proxy.
fn through_socks(address: &str) -> String {
    format!("ssh -o ProxyCommand='nc -X 5 -x 127.0.0.1:8888 %h %p' {address} 'echo $HERE'")
}

#[test]
fn the_seeds_lines_work_word_for_word_and_the_nodes_are_reached_in_no_other_way() {
    let world = World::new();
    let direct = told(&world.sh(&format!("ssh -o ConnectTimeout=2 {} true", NODES[0])));
    assert_eq!(direct.0, Some(255), "{direct:?}");

    let mut socks = world.start("op", "seed", &["ssh", "-vND", "8888", "vpn-user@vpn-host"]);
    socks.says("Entering interactive session", 1);
    assert_eq!(told(&world.sh(&through_socks(NODES[0]))).1, "one\n");
    socks.stop("TERM");

    fs::write(world.home().join(".ssh/config"), SEED).unwrap();
    let login = told(&world.sh("ssh 10.0.0.12.eolas 'echo $USER at $HERE'"));
    assert_eq!((login.0, login.1.as_str()), (Some(0), "vpn-user at two\n"), "{login:?}");
}

#[test]
fn the_proxy_leads_to_the_nodes_comes_back_whatever_is_killed_and_stops_with_its_ssh() {
    let world = World::new();
    let mut proxy = world.start_osier("proxy", &["vpn", "proxy", "-D", "8888", "vpn-user@vpn-host", "-o", "json"]);
    proxy.says("vpn-user@vpn-host: connected: SOCKS proxy on 127.0.0.1:8888", 1);
    assert_eq!(told(&world.sh(&through_socks(NODES[0]))).1, "one\n");
    let listening = told(&world.sh("ss -Hltn sport = 8888")).1;
    assert!(listening.contains(" 127.0.0.1:8888 ") && listening.lines().count() == 1, "{listening}");

    let taken = told(&world.osier(&["vpn", "proxy", "-D", "8888", "vpn-host"]));
    assert!(taken.0 == Some(1) && taken.2.contains("error: listen on 127.0.0.1:8888"), "{taken:?}");
    assert!(taken.2.contains("hint: choose another port") && !taken.2.contains("connecting"), "{taken:?}");

    let ssh = proxy.children();
    assert_eq!(ssh.len(), 1);
    kill(ssh[0], "KILL");
    proxy.says("lost the connection: ssh was ended by signal 9", 1);
    proxy.says("reconnecting", 1);
    proxy.says(": connected", 2);
    assert_eq!(told(&world.sh(&through_socks(NODES[1]))).1, "two\n");

    let sessions = world.vpn_sessions();
    sessions.iter().for_each(|session| kill(*session, "KILL"));
    proxy.says("lost the connection", 2);
    proxy.says(": connected", 3);
    assert_eq!(told(&world.sh(&through_socks(NODES[0]))).1, "one\n");

    let ssh = proxy.children();
    assert_eq!(proxy.stop("INT"), Some(0), "{}", proxy.err());
    assert!(proxy.err().ends_with("vpn-user@vpn-host: stopped\n") && !lives(ssh[0]), "{}", proxy.err());
    poll("the VPN's host has no session left", || equal(world.vpn_sessions(), [0_u32; 0]));
    let events: Vec<serde_json::Value> = proxy.out().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|e| e["event"].as_str().unwrap()).collect();
    let again = ["lost", "reconnecting", "connected"];
    let wanted = [&["connecting", "connected"][..], &again, &again, &["stopped"]].concat();
    assert_eq!(names, wanted);
    assert!(events.iter().all(|e| e["listen"] == "127.0.0.1:8888" && e["via"] == "vpn-user@vpn-host"));
}

#[test]
fn what_no_retry_can_mend_is_an_error_at_once() {
    let world = World::new();
    let other = fs::read_to_string(world.path("one.pub")).unwrap();
    fs::write(world.path("wrong"), format!("vpn-host {other}")).unwrap();
    for (words, code, said) in [
        (&["stranger@vpn-host"][..], 4, "Permission denied"),
        (&["no-such-host.invalid"], 4, "Could not resolve hostname"),
        (&["vpn-host", "--ssh-args", "-o UserKnownHostsFile=wrong"], 4, "Host key verification failed"),
        (&["vpn-host", "--ssh-args", "-o Nonsense=1"], 2, "onfiguration option"),
        (&["vpn-host;id"], 2, "is no destination"),
    ] {
        let output = told(&world.osier(&[&["vpn", "proxy", "-D", "8888"], words].concat()));
        assert!(output.0 == Some(code) && output.2.contains(said), "{words:?}: {output:?}");
        assert!(!output.2.contains("reconnecting"), "{words:?}: {output:?}");
        assert!(output.2.contains("hint: ") || code == 2, "{words:?}: {output:?}");
    }
}

#[test]
fn a_host_that_forbids_forwarding_is_named_for_that() {
    let world = World::new();
    let mut proxy = world.start_osier("jailed", &["vpn", "proxy", "jailed@vpn-host"]);
    proxy.says(": connected", 1);
    let through = told(&world.sh(&through_socks(NODES[0])));
    assert_eq!(through.0, Some(255), "{through:?}");
    proxy.says("warning: jailed@vpn-host forbids forwarding: its sshd_config needs 'AllowTcpForwarding yes'", 1);
    assert_eq!(proxy.stop("HUP"), Some(0), "{}", proxy.err());
}

#[test]
fn a_host_that_is_away_is_tried_again_until_somebody_stops_it() {
    let world = World::new();
    let mut proxy = world.start_osier("away", &["vpn", "proxy", "vpn-host:2222"]);
    proxy.says("cannot connect: ssh: connect to host vpn-host port 2222: Connection refused", 2);
    assert_eq!(proxy.stop("TERM"), Some(0), "{}", proxy.err());
    assert!(proxy.err().contains("vpn-host:2222: reconnecting in 1."), "{}", proxy.err());
    assert!(proxy.err().contains("vpn-host:2222: reconnecting in 2."), "{}", proxy.err());
}

#[test]
fn an_installed_block_leads_ssh_to_the_nodes_and_is_taken_out_without_a_trace() {
    let world = World::new();
    let config = world.home().join(".ssh/config");
    let mine = "Host *\n   User root\n   ServerAliveInterval 30\n";
    fs::write(&config, mine).unwrap();
    let block = ["vpn", "ssh-config", "--suffix", "eolas"];
    let via = [&block[..], &["--via", "root@vpn-host", "--user", "vpn-user"]].concat();
    let printed = told(&world.osier(&via));
    assert!(printed.0 == Some(0) && printed.1.starts_with("Host *.eolas\n   User vpn-user\n"), "{printed:?}");
    let install = [&via[..], &["--install"]].concat();
    for what in ["installed", "was there already"] {
        let installed = told(&world.osier(&install));
        assert!(installed.0 == Some(0) && installed.1.contains(what), "{installed:?}");
        assert!(installed.2.is_empty(), "ssh takes the block: {installed:?}");
    }
    fs::rename(&config, world.path("aside")).unwrap();
    let unread = [&["env", "HOME=elsewhere", env!("CARGO_BIN_EXE_osier")], &install[..]].concat();
    let unread = told(&world.on("op", &unread).output().unwrap());
    fs::rename(world.path("aside"), &config).unwrap();
    assert!(
        unread.0 == Some(0) && unread.2.contains("ssh does not take the block from 'elsewhere/.ssh/config'"),
        "{unread:?}"
    );
    assert!(fs::read_to_string(&config).unwrap().ends_with(mine));
    let login = told(&world.sh("ssh 10.0.0.11.eolas 'echo $USER at $HERE'"));
    assert_eq!((login.0, login.1.as_str()), (Some(0), "vpn-user at one\n"), "{login:?}");
    let removed = told(&world.osier(&[&block[..], &["--remove"]].concat()));
    assert_eq!(removed.0, Some(0), "{removed:?}");
    assert_eq!(fs::read_to_string(&config).unwrap(), mine);
}

#[test]
fn fleet_commands_go_through_proxy_commands_jumps_and_nested_bastions() {
    let world = World::new();
    let block = ["vpn", "ssh-config", "--suffix", "eolas", "--via", "vpn-user@vpn-host", "--install"];
    assert_eq!(told(&world.osier(&block)).0, Some(0));
    let inventory = format!(
        "command ansible_host={} ansible_ssh_common_args='-o ProxyCommand=\"ssh -W %h:%p vpn-user@vpn-host\"'\n\
         netcat ansible_host={} ansible_ssh_common_args='-o ProxyCommand=\"ssh vpn-host nc -w 60 %h %p\"'\n\
         jump ansible_host={} ansible_user=vpn-user ansible_ssh_common_args='-o ProxyJump=vpn-user@vpn-host'\n\
         nested ansible_host={} ansible_ssh_common_args='-J vpn-user@vpn-host,vpn-user@{}'\n\
         suffix ansible_host={}.eolas\n",
        NODES[0], NODES[0], NODES[1], NODES[2], NODES[1], NODES[1]
    );
    fs::write(world.path("inventory"), inventory).unwrap();
    let ran = told(&world.osier(&["exec", "-i", "inventory", "-o", "json", "--", "echo $USER at $HERE"]));
    assert_eq!(ran.0, Some(0), "{ran:?}");
    let ran: serde_json::Value = serde_json::from_str(&ran.1).unwrap();
    let said: Vec<(&str, &str)> = ran["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| (h["host"].as_str().unwrap(), h["stdout"][0].as_str().unwrap()))
        .collect();
    let wanted = [
        ("command", "root at one"),
        ("netcat", "root at one"),
        ("jump", "vpn-user at two"),
        ("nested", "root at deep"),
        ("suffix", "root at two"),
    ];
    assert_eq!(said, wanted);
    let lost = format!("lost ansible_host={} ansible_ssh_common_args='-J vpn-host:1,vpn-user@vpn-host'\n", NODES[0]);
    fs::write(world.path("lost"), lost).unwrap();
    let lost = told(&world.osier(&["exec", "-i", "lost", "--", "true"]));
    assert!(lost.0 == Some(4) && lost.2.contains("connect to 'lost'"), "{lost:?}");
}

#[test]
fn a_docker_client_reaches_a_manager_behind_the_vpn_through_the_proxy() {
    let world = World::new();
    let manager = [env!("CARGO_BIN_EXE_osier"), "manage", "-H", "tcp://0.0.0.0:3376", "nodes://10.0.0.12:2375"];
    let _manager = world.start("one", "manager", &manager);
    let mut proxy = world.start_osier("proxy", &["vpn", "proxy", "vpn-host"]);
    proxy.says(": connected", 1);
    docker_shows_it(&world, "HTTP_PROXY=socks5://127.0.0.1:8888 docker -H tcp://10.0.0.11:3376");
    let direct = told(&world.sh("timeout 5 docker -H tcp://10.0.0.11:3376 info"));
    assert!(direct.0 != Some(0) && !direct.1.contains("osier"), "{direct:?}");
}

#[test]
fn a_tunnel_leads_docker_to_the_manager_and_to_nobody_else() {
    let world = World::new();
    let authority = cluster(&world);
    let tls = ["ca", "cert", "key"]
        .map(|f| format!("--tls{}={}", f.replace("ca", "cacert"), world.path(&format!("manager/{f}.pem")).display()));
    let manage = |listen: &str| {
        let line = [
            env!("CARGO_BIN_EXE_osier"),
            "manage",
            "--tlsverify",
            &tls[0],
            &tls[1],
            &tls[2],
            "-H",
            listen,
            "nodes://10.0.0.12:2375",
        ];
        world.start("one", "manager", &line)
    };
    let mut manager = manage("tcp://0.0.0.0:3376");
    let mut tunnel = world.start_osier("tunnel", &["vpn", "tunnel", "--via", "vpn-user@vpn-host"]);
    tunnel.says("'docker -c behind-tunnel info' uses it", 1);
    docker_shows_it(&world, "docker -c behind-tunnel");
    let second = told(&world.osier(&["vpn", "tunnel", "--via", "vpn-host", "--port", "3377"]));
    assert!(second.0 == Some(1) && second.2.contains("a tunnel to cluster 'behind' is open already"), "{second:?}");
    kill(tunnel.children()[0], "KILL");
    tunnel.says("leads to the manager of 'behind'", 2);
    docker_shows_it(&world, "docker -c behind-tunnel");
    assert_eq!(tunnel.stop("TERM"), Some(0), "{}", tunnel.err());
    assert!(!told(&world.sh("docker context ls")).1.contains("behind"), "the context is gone");

    // By way of a node of the inventory, to another port; the manager is away at first.
    assert_eq!(manager.stop("TERM"), Some(0));
    let inventory = format!("two ansible_host={} ansible_ssh_common_args='-J vpn-user@vpn-host'\n", NODES[1]);
    fs::write(world.path("inventory"), inventory).unwrap();
    let words = ["vpn", "tunnel", "-i", "inventory", "--node", "two", "--port", "3377"];
    let mut tunnel = world.start_osier("by-node", &words);
    tunnel.says("where no manager answers", 1);
    let _manager = manage("tcp://0.0.0.0:3376");
    docker_shows_it(&world, "docker -c behind-tunnel");
    assert_eq!(tunnel.stop("INT"), Some(0), "{}", tunnel.err());

    // Another node of the same cluster is not its manager.
    drop(_manager);
    issue(&authority, &world.path("manager"), "other", "10.0.0.12");
    let _other = manage("tcp://0.0.0.0:3376");
    let mut said = (None, String::new(), String::new());
    poll("the other is refused", || {
        let words = ["timeout", "5", env!("CARGO_BIN_EXE_osier"), "vpn", "tunnel", "--via", "vpn-host"];
        said = told(&world.on("op", &words).output().unwrap());
        said.0 == Some(1)
    });
    assert!(
        said.2.contains("invalid peer certificate") && said.2.contains("is not the manager of 'behind'"),
        "{said:?}"
    );
    assert!(!told(&world.sh("docker context ls")).1.contains("behind"), "no context leads to a stranger");
}

/// Waits until a Docker client of the operator's is answered by a manager.
fn docker_shows_it(world: &World, client: &str) {
    let start = Instant::now();
    loop {
        let said = told(&world.sh(&format!("{client} version")));
        if said.0 == Some(0) && said.1.contains("osier") {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{client} is not answered by a manager: {said:?}");
    }
}

/// A cluster in the operator's files whose manager is the first node, and the certificates of both.
fn cluster(world: &World) -> Authority {
    let authority = Authority::create("behind", OffsetDateTime::now_utc()).unwrap();
    let folder = world.path("osier/clusters/behind");
    issue(&authority, &folder, "operator", "192.0.2.1");
    issue(&authority, &world.path("manager"), "one", NODES[0]);
    let record = Record {
        name: "behind".parse().unwrap(),
        token: Token::from_random([7; 16]),
        pool: "10.1.1.0/24".parse().unwrap(),
        domain: Hostname::default_domain(),
        founder: PeerId::from_random([1; 6]),
        managers: [("one".parse().unwrap(), format!("{}:3376", NODES[0]).parse().unwrap())].into(),
        members: Vec::new(),
        cleared: BTreeSet::new(),
        leaving: BTreeSet::new(),
        roll: Vec::new(),
        revoked: Vec::new(),
    };
    osier_store::write_json(&folder.join("cluster.json"), &record, osier_store::PUBLIC).unwrap();
    authority
}

/// A certificate as nodes have them: for its own address, and for 127.0.0.1.
fn issue(authority: &Authority, folder: &std::path::Path, name: &str, address: &str) {
    let addresses = vec![address.parse().unwrap(), [127, 0, 0, 1].into()];
    let subject = Subject { name: name.into(), dns: vec![name.into()], addresses };
    let issued = authority.issue(&subject, OffsetDateTime::now_utc()).unwrap();
    for (file, text) in [("ca", authority.cert_pem()), ("cert", &issued.cert_pem), ("key", &issued.key_pem)] {
        osier_store::write(&folder.join(format!("{file}.pem")), text.as_bytes(), osier_store::SECRET).unwrap();
    }
}
