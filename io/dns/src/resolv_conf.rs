//! `resolv.conf` (resolv.conf(5)): which resolvers a host uses, and which domains it searches.
//!
//! Must not know where the file is. Lines that cannot be understood are passed over, as the C library does.

use std::net::{IpAddr, Ipv4Addr};

/// Docker's embedded resolver, which exists only inside containers.
const DOCKER_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// What a `resolv.conf` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Resolvers in the order in which to ask them, each once; never our own or Docker's.
    pub nameservers: Vec<IpAddr>,
    /// Search domains, as written.
    pub search: Vec<String>,
    /// Options, as written (`ndots:5`).
    pub options: Vec<String>,
}

/// Reads a `resolv.conf`. Resolvers that would lead back here are left out: our own address, and Docker's.
pub fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A zone (`fe80::1%eth0`) cannot be followed from an address alone.
                let address = words.next().and_then(|w| w.parse().ok());
                let ours = [IpAddr::V4(osier_model::DNS_ADDRESS), DOCKER_RESOLVER];
                conf.nameservers.extend(address.filter(|a| !ours.contains(a) && !conf.nameservers.contains(a)));
            }
            // The last of several lines counts.
            Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
            Some("options") => conf.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    conf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_resolvers_are_read() {
        let conf = parse_resolv_conf(
            "# written by dhclient\nnameserver 10.64.1.1\nnameserver\t10.64.1.2 # second\nnameserver 10.64.1.1\n\
             domain old.example\nsearch openstacklocal example.org\noptions ndots:1 timeout:5\noptions rotate\n",
        );
        assert_eq!(conf.nameservers, ["10.64.1.1", "10.64.1.2"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(conf.search, ["openstacklocal", "example.org"]);
        assert_eq!(conf.options, ["ndots:1", "timeout:5", "rotate"]);
    }

    #[test]
    fn resolvers_that_lead_back_here_are_left_out_and_the_hosts_own_stay() {
        let text = "nameserver 127.0.0.11\nnameserver 169.254.53.53\nnameserver 127.0.0.53\nnameserver ::1\n\
                    nameserver dns.example\nnameserver fe80::1%eth0\nnameserver\nnonsense\n";
        let conf = parse_resolv_conf(text);
        assert_eq!(conf.nameservers, ["127.0.0.53", "::1"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(parse_resolv_conf(""), ResolvConf::default());
    }
}
