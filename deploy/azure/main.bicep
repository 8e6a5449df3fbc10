// Gateways on a scale set behind an internal load balancer, and the Azure OpenAI accounts they call:
// provisioned throughput and pay-as-you-go in one region, pay-as-you-go in another. No keys anywhere.
// README.md says how to deploy it.

targetScope = 'resourceGroup'

@description('Prefix of every name; with the accounts\' names unique in all of Azure.')
@minLength(3)
@maxLength(20)
param prefix string = 'spillway'
@description('Where the gateways and the provisioned throughput are.')
param location string = 'swedencentral'
@description('Where the second account is.')
param secondLocation string = 'francecentral'

@description('The model that callers ask for, and its version.')
param model string = 'gpt-4o'
param modelVersion string = '2024-11-20'
@description('Provisioned throughput units; 0 leaves that deployment out.')
@minValue(0)
param ptuCapacity int = 50
@description('Kind of the pay-as-you-go deployments.')
@allowed([
  'GlobalStandard'
  'DataZoneStandard'
  'Standard'
])
param paygSku string = 'DataZoneStandard'
@description('Their size, in thousands of tokens per minute.')
@minValue(1)
param paygCapacity int = 300

@description('Where the .deb can be fetched, such as a blob with a signature.')
@secure()
param packageUrl string
@description('SHA-256 of the .deb, in hexadecimal.')
@minLength(64)
@maxLength(64)
param packageSha256 string
@description('Token of the admin API and of /metrics.')
@secure()
@minLength(32)
param adminToken string

@description('Entra tenant whose tokens callers show.')
param tenantId string = subscription().tenantId
@description('Audience of those tokens.')
param audience string = 'api://spillway'

@minValue(1)
param instances int = 2
param vmSize string = 'Standard_D2as_v5'
param adminUsername string = 'operator'
@description('SSH public key of the operator.')
param sshPublicKey string
param addressPrefix string = '10.40.0.0/24'

var listenPort = 8080
var adminPort = 9090
var unique = uniqueString(resourceGroup().id)
var paygName = '${model}-payg'
var ptuName = '${model}-ptu'
var ptuDeployments = ptuCapacity == 0 ? [] : [
  {
    name: ptuName
    sku: 'ProvisionedManaged'
    capacity: ptuCapacity
    model: model
    version: modelVersion
  }
]
var paygDeployments = [
  {
    name: paygName
    sku: paygSku
    capacity: paygCapacity
    model: model
    version: modelVersion
  }
]

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${prefix}-gateways'
  location: location
}

module first 'openai.bicep' = {
  name: 'openai-first'
  params: {
    name: '${prefix}-${unique}-1'
    location: location
    principalId: identity.properties.principalId
    deployments: concat(ptuDeployments, paygDeployments)
  }
}

module second 'openai.bicep' = {
  name: 'openai-second'
  params: {
    name: '${prefix}-${unique}-2'
    location: secondLocation
    principalId: identity.properties.principalId
    deployments: paygDeployments
  }
}

module network 'network.bicep' = {
  name: 'network'
  params: {
    prefix: prefix
    location: location
    addressPrefix: addressPrefix
    listenPort: listenPort
    adminPort: adminPort
  }
}

// The config, from a file that can be read and checked by itself; @NAME@ is put in here.
var ptuMember = '  { backend = "ptu", priority = 1 },\n'
var template = loadTextContent('spillway.toml')
var values = [
  [ptuMember, ptuCapacity == 0 ? '' : ptuMember]
  ['@FIRST_URL@', first.outputs.url]
  ['@SECOND_URL@', second.outputs.url]
  ['@FIRST_LOCATION@', location]
  ['@SECOND_LOCATION@', secondLocation]
  ['@MODEL@', model]
  ['@PTU@', ptuName]
  ['@PAYG@', paygName]
  ['@CLIENT_ID@', identity.properties.clientId]
  ['@TENANT@', tenantId]
  ['@AUDIENCE@', audience]
]
var config = reduce(values, template, (text, value) => replace(string(text), value[0], value[1]))

var setup = [
  ['@CONFIG@', base64(config)]
  ['@ADMIN_TOKEN@', base64(adminToken)]
  ['@PACKAGE_URL@', base64(packageUrl)]
  ['@PACKAGE_SHA256@', packageSha256]
]
var cloudInit = reduce(setup, loadTextContent('cloud-init.yaml'), (text, value) => replace(string(text), value[0], value[1]))

resource gateways 'Microsoft.Compute/virtualMachineScaleSets@2024-07-01' = {
  name: '${prefix}-gateways'
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  sku: {
    name: vmSize
    tier: 'Standard'
    capacity: instances
  }
  properties: {
    orchestrationMode: 'Uniform'
    overprovision: false
    singlePlacementGroup: false
    upgradePolicy: {
      mode: 'Rolling'
      rollingUpgradePolicy: {
        maxBatchInstancePercent: 50
        maxUnhealthyInstancePercent: 50
        maxUnhealthyUpgradedInstancePercent: 0
        pauseTimeBetweenBatches: 'PT1M'
        // cloud-init runs once in a machine's life: a change brings new machines, not changed ones.
        maxSurge: true
        rollbackFailedInstancesOnPolicyBreach: true
      }
    }
    automaticRepairsPolicy: {
      enabled: true
      gracePeriod: 'PT10M'
      repairAction: 'Replace'
    }
    virtualMachineProfile: {
      osProfile: {
        computerNamePrefix: take(prefix, 9)
        adminUsername: adminUsername
        customData: base64(cloudInit)
        linuxConfiguration: {
          disablePasswordAuthentication: true
          ssh: {
            publicKeys: [
              {
                path: '/home/${adminUsername}/.ssh/authorized_keys'
                keyData: sshPublicKey
              }
            ]
          }
        }
      }
      storageProfile: {
        imageReference: {
          publisher: 'Debian'
          offer: 'debian-12'
          sku: '12-gen2'
          version: 'latest'
        }
        osDisk: {
          createOption: 'FromImage'
          caching: 'ReadWrite'
          managedDisk: {
            storageAccountType: 'Premium_LRS'
          }
        }
      }
      networkProfile: {
        networkInterfaceConfigurations: [
          {
            name: 'nic'
            properties: {
              primary: true
              enableAcceleratedNetworking: true
              ipConfigurations: [
                {
                  name: 'ip'
                  properties: {
                    subnet: {
                      id: network.outputs.subnetId
                    }
                    loadBalancerBackendAddressPools: [
                      {
                        id: network.outputs.poolId
                      }
                    ]
                  }
                }
              ]
            }
          }
        ]
      }
      extensionProfile: {
        extensions: [
          {
            // From inside the machine; rolling upgrades and repairs go by it.
            name: 'health'
            properties: {
              publisher: 'Microsoft.ManagedServices'
              type: 'ApplicationHealthLinux'
              typeHandlerVersion: '1.0'
              autoUpgradeMinorVersion: true
              settings: {
                protocol: 'http'
                port: adminPort
                requestPath: '/readyz'
                intervalInSeconds: 5
                numberOfProbes: 2
              }
            }
          }
        ]
      }
    }
  }
}

@description('What applications set as their base URL.')
output baseUrl string = 'http://${network.outputs.address}:${listenPort}/v1'
output firstUrl string = first.outputs.url
output secondUrl string = second.outputs.url
