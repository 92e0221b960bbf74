//! What is removed when all containers or images of a host are, and what is Osier's own and stays.
//!
//! Must not know how an engine is asked. Of Osier only a lab runs in containers: its nodes carry the label `osier.lab`, and
//! their images are called `osier-lab-node`. Agents and managers are services of the host.

/// The label of whatever belongs to a lab.
const LAB: &str = "osier.lab";
/// The repository of a lab's images.
const LAB_IMAGES: &str = "osier-lab-node";

/// A container or an image, as an engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub id: String,
    /// Its name: a container's, or an image's with its tag.
    pub name: String,
    labels: String,
}

/// What to do with all that an engine has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sparing {
    /// To be removed; each id once.
    pub remove: Vec<Item>,
    /// Osier's own.
    pub keep: Vec<Item>,
}

impl Item {
    /// Reads `ID`, name and labels (`a=1,b=2`) with tabulators between them.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(str::trim);
        let id = fields.next().filter(|id| !id.is_empty())?.to_owned();
        Some(Self { id, name: fields.next()?.to_owned(), labels: fields.next().unwrap_or_default().to_owned() })
    }

    fn is_own(&self) -> bool {
        let is_lab = |label: &str| label.split('=').next() == Some(LAB);
        let repository = self.name.split(':').next().unwrap_or_default();
        self.labels.split(',').any(is_lab) || repository == LAB_IMAGES
    }
}

/// Reads an engine's list. An image has a line for each of its names; one that is Osier's own under any of them stays.
pub fn spare(list: &str) -> Sparing {
    let items: Vec<Item> = list.lines().filter_map(Item::parse).collect();
    let mut sparing = Sparing::default();
    for item in &items {
        let own = items.iter().any(|i| i.id == item.id && i.is_own());
        let side = if own { &mut sparing.keep } else { &mut sparing.remove };
        if !side.iter().any(|i| i.id == item.id) {
            side.push(item.clone());
        }
    }
    sparing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_labs_containers_and_images_stay() {
        let ids = |items: &[Item]| items.iter().map(|i| i.id.clone()).collect::<Vec<_>>();
        let containers =
            spare("a\tweb\t\nb\tosier-lab-n1\tosier.lab=lab,x=1\nc\tother\tnot.osier.lab=1,osier.labor=2\n\n");
        assert_eq!((ids(&containers.remove), ids(&containers.keep)), (vec!["a".into(), "c".into()], vec!["b".into()]));
        let images = spare("1\tbusybox:1\n1\tbusybox:2\n2\tosier-lab-node:bookworm\n2\tmine:1\n3\t<none>:<none>\n");
        assert_eq!((ids(&images.remove), ids(&images.keep)), (vec!["1".into(), "3".into()], vec!["2".into()]));
        assert_eq!(spare(""), Sparing::default());
    }
}
