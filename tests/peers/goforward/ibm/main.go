// Ibm is a Forward client and a Forward server made of github.com/IBM/fluent-forward-go, for the tests of esa-tls.
//
//	ibm send ...   sends the lines of its standard input with the library's client
//	ibm serve ...  a server made of the library's protocol package, as it has none
package main

import (
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: ibm send|serve ...")
	}
	run, known := map[string]func([]string) error{"send": send, "serve": serve}[os.Args[1]]
	if !known {
		log.Fatalf("no such command: %s", os.Args[1])
	}
	if err := run(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}
