;; Packages that Guile alone can build: no source, no compiler, nothing from a network.
(define-module (regpush packages)
  #:use-module (guix gexp)
  #:use-module (guix packages)
  #:use-module (guix build-system trivial)
  #:use-module ((guix licenses) #:prefix license:))

(define* (script name version text #:key (program name) (inputs '()))
  "A package whose bin/PROGRAM is a script of sh that prints TEXT."
  (package
    (name name)
    (version version)
    (source #f)
    (build-system trivial-build-system)
    (arguments
     (list #:modules '((guix build utils))
           #:builder
           #~(begin
               (use-modules (guix build utils))
               (let ((file (string-append #$output "/bin/" #$program)))
                 (mkdir-p (dirname file))
                 (call-with-output-file file
                   (lambda (port)
                     (format port "#!/bin/sh~%# ~s~%echo ~a~%" '#$inputs #$text)))
                 (chmod file #o555)))))
    (home-page "https://example.org")
    (synopsis "A script for a test")
    (description "A script for a test.")
    (license license:gpl3+)))

(define-public regpush-library (script "regpush-library" "1.0" "library"))
(define-public regpush-tool-1
  (script "regpush-tool" "1.0" "tool one" #:inputs (list regpush-library)))
(define-public regpush-tool-2
  (script "regpush-tool" "2.0" "tool two" #:inputs (list regpush-library)))
(define-public regpush-first (script "regpush-first" "1" "first" #:program "same"))
(define-public regpush-second (script "regpush-second" "1" "second" #:program "same"))

(define-public (compiling modules)
  "A package whose derivation compiles MODULES first: guix draws a bar for that."
  (package
    (inherit regpush-library)
    (name "regpush-compiling")
    (arguments
     (list #:modules modules
           #:builder #~(mkdir #$output)))))
