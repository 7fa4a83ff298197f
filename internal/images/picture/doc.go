// Package picture says whether bytes are a whole image, while they pass on their way to a hash.
//
// It promises to find a JPEG, PNG, GIF, WebP, AVIF or HEIC that was cut short, one that ends in zeros that no pixels can be,
// whatever a format's own checksums find, and what is no image at all; and never to call an image damaged that browsers
// show in full: bytes after the end and another image's file name extension are common and harmless. What it cannot find
// is a changed pixel in a format without checksums; Decode finds some of those, at 200 times the cost of the hash.
//
// It reads nothing itself and holds no more than a few bytes of what passes.
package picture
