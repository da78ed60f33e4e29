//! The first click: every form in which providers send it, and what must not count as one.

use crate::common::{Connection, LIST, Place};

const RECIPIENT: &str = "alice@example.org";

/// Each form over a connection of its own and all over one, with one suppression in the end.
#[test]
fn every_form_of_the_post_opts_out_once() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, RECIPIENT, "2026-01");
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n";
    let forms: [(&[&str], &str); 7] = [
        (&["Content-Type: application/x-www-form-urlencoded"], "List-Unsubscribe=One-Click"),
        (&["Content-Type: multipart/form-data; boundary=b"], multipart),
        (&["Content-Type: multipart/form-data; boundary=b"], "--b\r\nbroken"),
        (&["Content-Type: multipart/form-data"], "no boundary"),
        (&["Content-Type: application/x-www-form-urlencoded"], ""),
        (&[], ""),
        (&[], "List-Unsubscribe=One-Click"),
    ];
    for (headers, body) in forms {
        let reply = service.public("POST", &path, headers, body.as_bytes());
        assert_eq!(reply.status, 200, "{headers:?} {body}");
    }
    let mut connection = Connection::open(service.public);
    for (headers, body) in forms {
        let reply = connection.request("POST", &path, headers, body.as_bytes());
        assert_eq!(reply.status, 200, "{headers:?} {body}, kept alive");
    }
    let history = place.history();
    assert_eq!(history.len(), 1, "{history:?}");
    let event = &history[0];
    assert_eq!((&event["action"], &event["source"]), (&"opt_out".into(), &"one_click".into()));
    assert_eq!((&event["campaign"], &event["changed"]), (&"2026-01".into(), &true.into()));
    assert_eq!(event["recipient"], RECIPIENT);
    assert_eq!(place.check(LIST, RECIPIENT), 1);
    service.stop();
    place.verify();
}
