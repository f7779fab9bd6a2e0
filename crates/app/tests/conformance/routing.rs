//! Jobs of one queue go to different handlers by their names.

use qfleet_testkit::Answer;

use crate::stage::{Library, Stage};

conforms!(every: by_name);

fn by_name(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    let url = stage.receiver.url();
    let routes = format!(
        "routes: [{{name: 'mail:*', handler: {{http: '{url}/mail'}}}}, {{name: resize, handler: {{http: '{url}/images'}}}}]"
    );
    let mut fleet = stage.fleet(&[("mixed", routes.as_str())]);
    stage.run(
        "for (const name of ['mail:welcome', 'resize', 'resize me', 'mail:bye', 'grün ☃'])
           await kit.queue('mixed').add(name, {})",
    );
    stage.ended("mixed", 5, 0);
    assert_eq!(stage.names("mail"), ["mail:welcome", "mail:bye"]);
    assert_eq!(stage.names("images"), ["resize"]);
    assert_eq!(stage.names("mixed"), ["resize me", "gr%C3%BCn %E2%98%83"]);
    assert_eq!(fleet.stop(), 0);
}
